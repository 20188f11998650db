//! Makes a module: `module CACHE RELEASE BUILD_ID NAME OUT [UNIT PARENT ORIG.o PATCHED.o …]`.
use std::path::Path;
use tuxtape_core::identity::ObjectName;
use tuxtape_kernel::build::{Answer, Label, UnitPair, build};
use tuxtape_kernel::files::KernelFiles;

#[expect(clippy::print_stdout, reason = "an example prints")]
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let files = KernelFiles::below(Path::new(&args[0]), &args[1].parse().expect("release"));
    let label = Label {
        name: args[3].parse().expect("name"),
        build_id: args[2].parse().expect("build-id"),
        series: (6, 1),
        compiler: "gcc".to_owned(),
    };
    let pairs: Vec<UnitPair> = args[5..]
        .chunks_exact(4)
        .map(|c| UnitPair {
            unit: c[0].clone(),
            parent: ObjectName(c[1].clone()),
            original: c[2].clone().into(),
            patched: c[3].clone().into(),
        })
        .collect();
    match build(&files, &pairs, &label) {
        Ok(Answer::Built(module)) => {
            std::fs::write(&args[4], &module.bytes).expect("write");
            println!(
                "BUILT {:?} {:?} {:?}",
                module.units, module.warnings, module.durations
            );
        }
        Ok(Answer::Refused(refusals)) => {
            println!("REFUSED");
            for r in refusals {
                println!("  {r}");
            }
        }
        Ok(Answer::NoChange(units)) => println!("NOCHANGE {units:?}"),
        Err(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(s) = source {
                text += ": ";
                text += &s.to_string();
                source = s.source();
            }
            println!("ERROR {text}");
        }
    }
}
