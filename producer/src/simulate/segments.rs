//! Kinds of customers, and how each of them shops.

/// A kind of customer.
pub(crate) struct Segment {
    /// Share of all customers, in percent.
    pub(crate) share: f64,
    /// Sessions of such a customer, relative to a regular one.
    pub(crate) activity: f64,
    /// After a page view: the chance that the product goes into the cart.
    pub(crate) cart: f32,
    /// After filling the cart: the chance to go to the checkout.
    pub(crate) checkout: f32,
    /// At the checkout: the chance to pay.
    pub(crate) pay: f32,
    /// After a page view: the chance to leave.
    pub(crate) leave: f32,
    /// The chance to take one more of a product put into the cart.
    pub(crate) one_more: f32,
}

/// The last one is the anonymous visitor, who is no customer.
pub(crate) const SEGMENTS: [Segment; 5] = [
    // New: looks around, seldom buys.
    Segment { share: 45.0, activity: 0.4, cart: 0.06, checkout: 0.25, pay: 0.60, leave: 0.22, one_more: 0.05 },
    // Regular.
    Segment { share: 35.0, activity: 1.0, cart: 0.10, checkout: 0.35, pay: 0.75, leave: 0.17, one_more: 0.10 },
    // VIP: comes often, fills the cart, pays.
    Segment { share: 5.0, activity: 4.0, cart: 0.16, checkout: 0.45, pay: 0.88, leave: 0.13, one_more: 0.25 },
    // Bargain hunter: many carts, few of them paid for.
    Segment { share: 15.0, activity: 1.3, cart: 0.15, checkout: 0.20, pay: 0.50, leave: 0.15, one_more: 0.15 },
    // Anonymous.
    Segment { share: 0.0, activity: 0.0, cart: 0.04, checkout: 0.20, pay: 0.50, leave: 0.30, one_more: 0.05 },
];

/// The number of the anonymous segment.
pub(crate) const ANONYMOUS: u8 = SEGMENTS.len() as u8 - 1;

/// Share of sessions without a customer id.
pub(crate) const ANONYMOUS_SESSIONS: f64 = 0.15;
