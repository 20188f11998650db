//! Whether and where fixes are looked for in a kernel's source.

use anyhow::Context as _;
use clap::Args;
use tuxtape_kernel::fix_source::library::{Library, Network};
use tuxtape_kernel::fix_source::list;
use tuxtape_kernel::fix_source::spec::SourceSpec;

use crate::context::Context;
use crate::output::Hint;

/// What commands that judge a kernel take.
#[derive(Clone, Debug, Default, Args)]
pub struct Looking {
    /// Also look for the fixes in the kernel's source and for their functions in its objects: takes
    /// seconds, and needs diffs of the fixes
    #[arg(long)]
    content: bool,
    /// Take diffs of fixes from here and not from the sources listed in fix-sources.toml: git:PLACE,
    /// dir:PATH or url:TEMPLATE; can be repeated, the first asked first
    #[arg(long = "source", value_name = "SPEC")]
    sources: Vec<SourceSpec>,
    /// Let sources ask servers, too, and not the cache alone
    #[arg(long)]
    online: bool,
}

impl Looking {
    /// Returns where to look for diffs; `None` where nothing is looked for. A single CVE is always
    /// looked at: without diffs what the changelog says of it is still told.
    pub(crate) fn library(
        &self,
        context: &Context,
        is_single: bool,
    ) -> anyhow::Result<Option<Library>> {
        if !self.content && !is_single {
            return Ok(None);
        }
        let mut sources = if self.sources.is_empty() {
            list::load(&context.home)?
        } else {
            self.sources.clone()
        };
        // What is cut from a source package tells nothing about the tree it is cut from.
        sources.retain(|source| !matches!(source, SourceSpec::Package(_)));
        if sources.is_empty() && self.content {
            return Err(anyhow::anyhow!("there are no diffs of fixes to look for")).context(
                Hint::new(
                    "give --source git:PLACE or dir:PATH, or list sources in fix-sources.toml",
                ),
            );
        }
        Ok(Some(Library {
            sources,
            cache: context.cache.clone(),
            network: if self.online {
                Network::Allowed
            } else {
                Network::Never
            },
        }))
    }
}
