//! What a module was made of, as another machine wrote it down.
#![no_main]

use tuxtape_kernel::produce::recipe::{Recipe, differences};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(recipe) = Recipe::parse(bytes) {
        recipe.check_change(bytes).ok();
    }
    let (then, now) = bytes.split_at(bytes.len() / 2);
    differences(then, now).ok();
});
