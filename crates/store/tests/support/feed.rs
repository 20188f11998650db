//! A small feed, made commit by commit.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A bare repository with branch `master` that a test writes to.
pub(crate) struct Feed {
    pub(crate) folder: PathBuf,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    commits: u32,
}

impl Feed {
    /// Makes a feed of `records` published records, CVE-2024-1000 onwards, and commits it.
    pub(crate) fn new(folder: &Path, records: u32) -> Self {
        let folder = folder.join("feed.git");
        git(
            &["init", "-q", "--bare", folder.to_str().unwrap()],
            Path::new("/"),
        );
        let mut feed = Self {
            folder,
            files: BTreeMap::new(),
            commits: 0,
        };
        for number in 1000..1000 + records {
            feed.publish(number, "6.1.20");
        }
        feed.commit();
        feed
    }

    /// Adds or changes a published record: in from 5.10, out with `fixed` and 6.3.
    pub(crate) fn publish(&mut self, number: u32, fixed: &str) {
        let top = format!("cve/published/2024/CVE-2024-{number}");
        let (bug, fix, main) = ("1".repeat(40), "2".repeat(40), "3".repeat(40));
        let dyad = format!("# dyad\n5.10:{bug}:{fixed}:{fix}\n5.10:{bug}:6.3:{main}\n");
        let json = format!(
            r#"{{"dataType":"CVE_RECORD","cveMetadata":{{"cveId":"CVE-2024-{number}"}},"containers":{{"cna":{{
            "title":"net: fix {number}","descriptions":[{{"lang":"en","value":"text of {number}"}}],"affected":[
            {{"defaultStatus":"unaffected","programFiles":["net/{number}.c"],"versions":[
              {{"version":"{bug}","lessThan":"{fix}","status":"affected","versionType":"git"}},
              {{"version":"{bug}","lessThan":"{main}","status":"affected","versionType":"git"}}]}},
            {{"defaultStatus":"affected","programFiles":["net/{number}.c"],"versions":[
              {{"version":"5.10","status":"affected"}},
              {{"version":"0","lessThan":"5.10","status":"unaffected","versionType":"semver"}},
              {{"version":"{fixed}","lessThanOrEqual":"6.1.*","status":"unaffected","versionType":"semver"}},
              {{"version":"6.3","lessThanOrEqual":"*","status":"unaffected","versionType":"original_commit_for_fix"}}]}}]}}}}}}"#
        );
        self.files.insert(top.clone(), Vec::new());
        self.files.insert(format!("{top}.json"), json.into_bytes());
        self.files.insert(format!("{top}.dyad"), dyad.into_bytes());
    }

    /// Moves a record's files to the other folder, as a rejection does.
    pub(crate) fn move_record(&mut self, number: u32, from: &str, to: &str) {
        let prefix = format!("cve/{from}/2024/CVE-2024-{number}");
        let names: Vec<String> = self
            .files
            .keys()
            .filter(|name| name.starts_with(&prefix))
            .cloned()
            .collect();
        for name in names {
            let bytes = self.files.remove(&name).unwrap();
            self.files.insert(name.replace(from, to), bytes);
        }
    }

    /// Drops every file of a record.
    pub(crate) fn drop_record(&mut self, number: u32) {
        let part = format!("/CVE-2024-{number}");
        self.files.retain(|name, _| !name.contains(&part));
    }

    /// Commits the files as they are on top of `master`.
    pub(crate) fn commit(&mut self) {
        self.commits += 1;
        let mut text = Vec::new();
        writeln!(text, "commit refs/heads/master").unwrap();
        writeln!(
            text,
            "committer T <t@example.org> {} +0000",
            1_700_000_000 + self.commits
        )
        .unwrap();
        writeln!(text, "data 1\nc").unwrap();
        if self.commits > 1 {
            writeln!(text, "from refs/heads/master^0").unwrap();
        }
        writeln!(text, "deleteall").unwrap();
        for (name, bytes) in &self.files {
            writeln!(text, "M 100644 inline {name}\ndata {}", bytes.len()).unwrap();
            text.extend_from_slice(bytes);
            text.push(b'\n');
        }
        let mut child = Command::new("git")
            .args(["fast-import", "--quiet", "--force"])
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&text).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// Moves `master` to another commit.
    pub(crate) fn reset(&mut self, to: &str) {
        git(&["update-ref", "refs/heads/master", to], &self.folder);
    }

    pub(crate) fn tip(&self) -> String {
        git(&["rev-parse", "master"], &self.folder)
    }
}

pub(crate) fn git(arguments: &[&str], folder: &Path) -> String {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let mut words = String::new();
    write!(
        words,
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    )
    .unwrap();
    assert!(output.status.success(), "{words}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
