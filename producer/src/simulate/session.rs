//! One visit as a Markov chain: what the visitor does, and what next, after how long.

use super::{
    draft::{Draft, NONE, Visitor},
    effects::Effects,
    segments::SEGMENTS,
    world::World,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1};
use sluice_events::EventType;

/// Different products a cart holds at most.
const CART_LINES_MAX: usize = 6;
/// Pages a robot looks at.
pub(crate) const BOT_VIEWS: u16 = 100;
/// Nobody thinks longer than this inside a session, so that sessions stay whole under a gap of 30 minutes.
const THINK_MAX: f32 = 20.0 * 60_000.0;

/// What a visitor does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    View,
    Add,
    Wish,
    Remove,
    Checkout,
    /// Pays for the cart line of this number; the lines share one order.
    Pay(u8),
    /// Leaves the cart behind.
    Abandon,
    Refund,
    /// A robot looks at a page; so many are left.
    Click(u16),
}

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    product: u32,
    quantity: u8,
}

/// A visit that goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    pub(crate) visitor: Visitor,
    act: Act,
    product: u32,
    order: u64,
    cart: [Line; CART_LINES_MAX],
    lines: u8,
    /// Robots stay in one category.
    category: Option<u8>,
}

impl Session {
    /// A person comes.
    pub(crate) fn person(visitor: Visitor) -> Self {
        Self::new(visitor, Act::View, None)
    }

    /// A robot comes.
    pub(crate) fn robot(visitor: Visitor, category: Option<u8>) -> Self {
        Self::new(visitor, Act::Click(BOT_VIEWS), category)
    }

    fn new(visitor: Visitor, act: Act, category: Option<u8>) -> Self {
        Self { visitor, act, product: NONE, order: 0, cart: Default::default(), lines: 0, category }
    }

    /// Does what was to be done, and says after how many milliseconds the visitor acts again, if at all.
    pub(crate) fn step(
        &mut self,
        time: i64,
        world: &World,
        effects: &Effects,
        rng: &mut ChaCha8Rng,
    ) -> (Draft, Option<u64>) {
        let (event_type, product, quantity) = self.perform(world, rng);
        let country = self.visitor.country;
        let price_cents = if product == NONE {
            0
        } else {
            let category = world.catalogue.category(product);
            effects.price_cents(world.catalogue.price_cents(product, country), country, category)
        };
        let order = match self.act {
            Act::Pay(_) | Act::Refund => self.order,
            _ => 0,
        };
        let draft =
            Draft { time, id: rng.random(), event_type, visitor: self.visitor, order, product, quantity, price_cents };
        let next = self.decide(world, effects, rng).map(|(act, mean_seconds)| {
            self.act = act;
            think_millis(act, mean_seconds, rng)
        });
        (draft, next)
    }

    fn perform(&mut self, world: &World, rng: &mut ChaCha8Rng) -> (EventType, u32, u8) {
        match self.act {
            Act::View => {
                self.product = world.catalogue.pick(rng);
                (EventType::PageView, self.product, 1)
            }
            Act::Click(_) => {
                self.product = world.catalogue.pick_of(self.category, rng);
                (EventType::PageView, self.product, 1)
            }
            Act::Add => {
                let more = rng.random::<f32>() < SEGMENTS[usize::from(self.visitor.segment)].one_more;
                let line = Line { product: self.product, quantity: 1 + u8::from(more) };
                self.cart[usize::from(self.lines)] = line;
                self.lines += 1;
                (EventType::AddToCart, line.product, line.quantity)
            }
            Act::Wish => (EventType::AddToWishlist, self.product, 1),
            Act::Remove => {
                self.lines -= 1;
                let line = self.cart[usize::from(self.lines)];
                (EventType::RemoveFromCart, line.product, line.quantity)
            }
            Act::Checkout => (EventType::CheckoutStarted, NONE, self.items()),
            Act::Pay(number) => {
                if number == 0 {
                    self.order = rng.random::<u64>() | 1;
                }
                let line = self.cart[usize::from(number)];
                (EventType::Purchase, line.product, line.quantity)
            }
            Act::Abandon => (EventType::CartAbandon, NONE, self.items()),
            Act::Refund => (EventType::Refund, self.cart[0].product, self.cart[0].quantity),
        }
    }

    fn items(&self) -> u8 {
        self.cart[..usize::from(self.lines)].iter().map(|l| l.quantity).sum()
    }

    /// The next act and the mean time before it, in seconds; none when the visitor has gone.
    fn decide(&self, world: &World, effects: &Effects, rng: &mut ChaCha8Rng) -> Option<(Act, f32)> {
        let segment = &SEGMENTS[usize::from(self.visitor.segment)];
        let country = self.visitor.country;
        let has_cart = self.lines > 0;
        let leave = if has_cart { Some((Act::Abandon, 240.0)) } else { None };
        let dice: f32 = rng.random();
        let below = |chances: &[(f32, Option<(Act, f32)>)], otherwise| {
            let mut upto = 0.0;
            for (chance, then) in chances {
                upto += chance;
                if dice < upto {
                    return *then;
                }
            }
            otherwise
        };
        let browse = Some((Act::View, 25.0));
        match self.act {
            Act::View => {
                let factor = effects.cart_factor(country, world.catalogue.category(self.product));
                let add = if usize::from(self.lines) < CART_LINES_MAX { segment.cart * factor } else { 0.0 };
                let with_cart = f32::from(u8::from(has_cart));
                below(
                    &[
                        (segment.leave, leave),
                        (add, Some((Act::Add, 20.0))),
                        (0.02, Some((Act::Wish, 10.0))),
                        (0.15 * with_cart, Some((Act::Checkout, 30.0))),
                        (0.04 * with_cart, Some((Act::Remove, 12.0))),
                    ],
                    browse,
                )
            }
            Act::Add if rng.random::<f32>() < effects.leaves_cart(country) => Some((Act::Abandon, 40.0)),
            Act::Add => below(
                &[(0.15, leave), (segment.checkout, Some((Act::Checkout, 30.0))), (0.04, Some((Act::Remove, 12.0)))],
                browse,
            ),
            Act::Wish | Act::Remove => below(&[(segment.leave, leave)], browse),
            Act::Checkout => {
                let hurry = effects.leaves_cart(country);
                if hurry > 0.0 && rng.random::<f32>() < hurry {
                    return Some((Act::Abandon, 40.0));
                }
                Some(if dice < segment.pay { (Act::Pay(0), 75.0) } else { (Act::Abandon, 240.0) })
            }
            Act::Pay(number) if number + 1 < self.lines => Some((Act::Pay(number + 1), 0.0)),
            Act::Pay(_) => below(&[(0.015, Some((Act::Refund, 0.0)))], None),
            Act::Click(left) if left > 1 && effects.bots().next().is_some() => Some((Act::Click(left - 1), 0.2)),
            Act::Abandon | Act::Refund | Act::Click(_) => None,
        }
    }

    /// Whether the next act is to pay: an outage stops it.
    pub(crate) fn pays_now(&self) -> bool {
        self.act == Act::Pay(0)
    }

    /// The payment did not go through: the visitor leaves the cart behind.
    pub(crate) fn fail_payment(&mut self) {
        self.act = Act::Abandon;
    }
}

fn think_millis(act: Act, mean_seconds: f32, rng: &mut ChaCha8Rng) -> u64 {
    match act {
        // The lines of an order are paid for at one moment.
        Act::Pay(1..) => 0,
        // Between 10 minutes and 4 hours.
        Act::Refund => rng.random_range(600_000..14_400_000),
        Act::Click(_) => 50 + (exponential(rng) * mean_seconds * 1_000.0).min(2_000.0) as u64,
        _ => 500 + (exponential(rng) * mean_seconds * 1_000.0).min(THINK_MAX) as u64,
    }
}

fn exponential(rng: &mut ChaCha8Rng) -> f32 {
    Exp1.sample(rng)
}
