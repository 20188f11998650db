//! Every reader of others' bytes, on bytes that were damaged.

use super::{folder, list, mail};

fn damage(seed: &[u8], read: fn(&[u8])) {
    let mut state = 1_u64;
    for _ in 0..20_000 {
        let mut bytes = seed.to_vec();
        for _ in 0..3 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let [a, b, c, d, ..] = (state >> 16).to_le_bytes();
            let at = usize::from(u16::from_le_bytes([a, d])) % bytes.len();
            match c % 3 {
                0 => bytes[at] = b,
                1 if b < 16 => bytes.truncate(at.max(1)),
                _ => bytes[at] = b"\n -+\"\\{}[]:0/"[usize::from(b) % 13],
            }
        }
        read(&bytes);
    }
}

#[test]
fn a_garbled_index_is_read_or_refused() {
    let seed = include_bytes!("../../../../fuzz/seeds/fix_index/two");
    damage(seed, folder::fuzz);
}

#[test]
fn a_garbled_mail_is_read_or_refused() {
    let seed = include_bytes!("../../../../fuzz/seeds/fix_mail/mail");
    damage(seed, mail::fuzz);
}

#[test]
fn a_garbled_list_is_read_or_refused() {
    let seed = include_bytes!("../../../../fuzz/seeds/fix_sources/all");
    damage(seed, list::fuzz);
}
