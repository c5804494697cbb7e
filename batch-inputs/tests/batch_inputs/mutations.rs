//! Whatever the bytes are, nothing panics, and each record goes one way.

use crate::support::{achats, achats_in_batches, clients};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_batch_inputs::content_hash;

const TOKENS: [&[u8]; 24] = [
    b",",
    b";",
    b"\t",
    b"\"",
    b"\"\"",
    b"\n",
    b"\r",
    b"\r\n",
    b"\0",
    b"\xff",
    b"\xc3\xa9",
    b"\xc3",
    b"\xef\xbb\xbf",
    b" ",
    b"a1",
    b"c1",
    b"2024-01-02",
    b"10.50",
    b"1,234",
    b"\"x\ny\"",
    b"-",
    b"\xe2\x82\xac",
    b"9999999999",
    b",,,,",
];

fn valid(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut text = b"id_achat,id_client,date_achat,montant,produit\n".to_vec();
    for _ in 0..rng.random_range(0..30) {
        let (id, customer, day) = (rng.random_range(0..40), rng.random_range(0..11), rng.random_range(1..30));
        let product = ["CD", "\"a, b\"", "\"a\nb\"", "\"12\"\"\"", ""][rng.random_range(0..5)];
        let amount = ["10.50", "12,5", "0", "\"1 234,56\""][rng.random_range(0..4)];
        text.extend(format!("a{id},c{customer},2024-01-{day:02},{amount},{product}\n").bytes());
    }
    text
}

fn mutated(text: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(0..8) {
        let at = rng.random_range(0..=text.len());
        match rng.random_range(0..4) {
            0 => drop(text.splice(at..at, TOKENS[rng.random_range(0..TOKENS.len())].iter().copied())),
            1 => text.truncate(at.max(46)),
            2 if at < text.len() => text[at] = rng.random(),
            _ => drop(text.drain(at..(at + rng.random_range(0..6)).min(text.len()))),
        }
    }
}

#[test]
fn damaged_files_balance_and_batches_do_not_matter() {
    for seed in 0..2_000 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut text = valid(&mut rng);
        mutated(&mut text, &mut rng);
        // Most damage is to rows: a header that cannot serve ends the matter.
        let (Ok(whole), Ok(pieces)) = (achats(&text), achats_in_batches(&text, 1 + seed as usize % 5)) else {
            continue;
        };
        assert_eq!(whole.bronze, pieces.bronze, "SEED={seed}");
        assert_eq!(whole.silver, pieces.silver, "SEED={seed}");
        assert_eq!(whole.dead_letters, pieces.dead_letters, "SEED={seed}");
        assert_eq!((whole.summary, whole.quality), (pieces.summary, pieces.quality), "SEED={seed}");
    }
}

#[test]
fn random_bytes_behind_a_header_balance() {
    for seed in 0..2_000 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut text = b"id_client,nom,email,date_inscription,pays\n".to_vec();
        for _ in 0..rng.random_range(0..200) {
            if rng.random_bool(0.7) {
                text.extend_from_slice(TOKENS[rng.random_range(0..TOKENS.len())]);
            } else {
                text.push(rng.random());
            }
        }
        clients(&text).unwrap_or_else(|e| panic!("SEED={seed}: {e}"));
    }
}

#[test]
fn bytes_without_any_sense_are_an_error_or_balance() {
    for seed in 0..500 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut bytes: Vec<u8> = (0..rng.random_range(0..300)).map(|_| rng.random()).collect();
        // Sometimes they say they are gzip.
        if rng.random_bool(0.3) {
            bytes.splice(0..0, *b"\x1f\x8b\x08\0");
        }
        content_hash(&bytes[..]).unwrap();
        drop(clients(&bytes));
    }
}
