//! Which headers could be read, against those that debug data show to have left code.

use std::path::PathBuf;

use tuxtape_core::applicability::built;
use tuxtape_kernel::files::KernelFiles;
use tuxtape_kernel::profile::{headers, load};

#[test]
fn lab_no_header_with_code_is_missed() {
    let home = std::env::var_os("TUXTAPE_HOME").map(PathBuf::from);
    let cache = std::env::var_os("TUXTAPE_CACHE").map(PathBuf::from);
    let kernel = std::env::var("TUXTAPE_KERNEL").ok();
    let (Some(home), Some(cache), Some(kernel)) = (home, cache, kernel) else {
        eprintln!("skipped: TUXTAPE_HOME, TUXTAPE_CACHE and TUXTAPE_KERNEL are not all set");
        return;
    };
    let release = kernel.parse().unwrap();
    let mut profile = load(&home, &release).unwrap();
    // What sources are generated from is among the contributors, too, and no header.
    let is_header = |file: &&String| matches!(file.rsplit_once('.'), Some((_, "h")));
    let known: Vec<String> = profile
        .contributors
        .keys()
        .filter(is_header)
        .filter(|file| profile.tree_files.contains(*file) && !built::is_shared_header(file))
        .cloned()
        .collect();
    // Found from the units alone, so that nothing is measured by itself.
    profile.contributors.clear();
    let files = KernelFiles::below(&cache, &release);
    let start = std::time::Instant::now();
    let found = headers::readable(&files.source, &profile).unwrap();
    let missed: Vec<&String> = known.iter().filter(|file| !found.contains(*file)).collect();
    eprintln!(
        "{} readable outside of the shared folders, {} with code, {} of them missed, {:.1} s",
        found.len(),
        known.len(),
        missed.len(),
        start.elapsed().as_secs_f64()
    );
    assert!(!known.is_empty());
    assert_eq!(missed, Vec::<&String>::new());
}
