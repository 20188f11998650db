//! CVE records parse without panic, and their two readings can be compared.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tuxtape_core::cve::edition;

fuzz_target!(|bytes: &[u8]| edition::exercise(bytes));
