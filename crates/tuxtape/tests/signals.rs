//! `scan --signals` and `cve signals` as they are typed.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

#[expect(dead_code, reason = "shared with the store's tests")]
#[path = "../../store/tests/support/feed.rs"]
mod support;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use support::Feed;
use tuxtape_archive::serve;
use tuxtape_core::instant::UtcSeconds;

const KEV: &str = include_str!("../../../fuzz/seeds/signal_kev/catalogue.json");
const KEV_TABLE: &str = include_str!("../../../fuzz/seeds/signal_kev/catalogue.csv");
const EPSS: &str = include_str!("../../../fuzz/seeds/signal_epss/day.csv");
const RECORD: &str = include_str!("../../../fuzz/seeds/signal_adp/record.json");
const PAGE: &str = include_str!("../../../fuzz/seeds/signal_nvd/page.json");
const LIST: &str = include_str!("../../../fuzz/seeds/signal_exploits/list.json");
const ENTRY: &str = include_str!("../../../fuzz/seeds/signal_exploits/metadata.json");

/// A user whose feed knows CVE-2024-1000 to 1002.
struct User {
    folder: tempfile::TempDir,
    feed: Feed,
}

impl User {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let feed = Feed::new(folder.path(), 3);
        Self { folder, feed }
    }

    /// Writes a file of the user's and returns where it is.
    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tuxtape"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TUXTAPE_HOME", self.folder.path().join("home"))
            .env("TUXTAPE_CACHE", self.folder.path().join("cache"))
            .env("TUXTAPE_FEED", &self.feed.folder);
        for name in ["TUXTAPE_SIGNALS", "TUXTAPE_STORE", "SSL_CERT_FILE"] {
            command.env_remove(name);
        }
        for name in ["http_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        command
    }

    /// Scans with these places and other flags.
    fn scan(&self, arguments: &[&str]) -> Output {
        let mut all = vec!["scan", "--json"];
        all.extend(arguments);
        self.command(&all).output().unwrap()
    }

    /// Scans with one place, which must work, and returns what it says of its only source.
    fn taken(&self, place: &str) -> Value {
        let output = self.scan(&["--signals", place]);
        assert_eq!(output.status.code(), Some(0), "{}", talk(&output));
        let report = report(&output);
        assert_eq!(report["signals"].as_array().unwrap().len(), 1, "{report}");
        report["signals"][0].clone()
    }

    /// Scans with one place, which must fail in these words but for the feed.
    fn refused(&self, place: &str, words: &[&str]) {
        let output = self.scan(&["--signals", place]);
        assert_eq!(output.status.code(), Some(1), "{place}");
        let report = report(&output);
        assert_eq!(report["published"], 3, "the feed is in all the same");
        assert_eq!(report["signals"], json!([]));
        let failed = &report["signals_failed"][0];
        assert!(
            failed["error"]
                .as_str()
                .unwrap()
                .contains("could not take in"),
            "{failed}"
        );
        let talk = talk(&output);
        for word in words.iter().chain([&"error: ", &"hint: "]) {
            assert!(talk.contains(word), "{word:?} is not in: {talk}");
        }
    }

    /// What the store has, by source: rows and date.
    fn held(&self) -> BTreeMap<String, (u64, Value)> {
        let all = self
            .command(&["cve", "signals", "--json"])
            .output()
            .unwrap();
        let all = report(&all);
        let row = |row: &Value| {
            let source = row["source"].as_str().unwrap().to_owned();
            (
                source,
                (row["rows"].as_u64().unwrap(), row["dated"].clone()),
            )
        };
        all["signals"].as_array().unwrap().iter().map(row).collect()
    }
}

fn talk(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", talk(output)))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_source_is_told_by_its_content() {
    let user = User::new();
    for (name, content, source, rows) in [
        ("a", KEV, "kev", 2),
        ("b", EPSS, "epss", 4),
        ("c", RECORD, "adp", 3),
        ("d", PAGE, "nvd", 1),
        ("e", LIST, "exploits", 2),
    ] {
        let path = user.file(name, content);
        let taken = user.taken(text(&path));
        assert_eq!(
            (&taken["source"], &taken["rows"]),
            (&json!(source), &json!(rows))
        );
        let whole = fs::canonicalize(path).unwrap();
        assert_eq!(taken["origin"], text(&whole));
        assert!(taken["age_days"].is_u64() && taken["taken"].is_string());
    }
    let held = user.held();
    assert_eq!(held.len(), 5);
    assert_eq!(held["kev"], (2, json!("2026-11-20T18:02:11Z")));
    // A scan without signals leaves them alone.
    assert_eq!(report(&user.scan(&[]))["signals"], json!([]));
    assert_eq!(user.held(), held);
}

#[test]
fn a_packed_file_and_several_in_the_environment_are_taken() {
    let user = User::new();
    user.file("day.csv", EPSS);
    user.file("kev.csv", KEV_TABLE);
    let folder = user.folder.path();
    let packed = Command::new("gzip")
        .arg("day.csv")
        .current_dir(folder)
        .status();
    assert!(packed.unwrap().success());
    let output = user
        .command(&["scan", "--json"])
        .env("TUXTAPE_SIGNALS", "day.csv.gz,kev=kev.csv")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", talk(&output));
    assert_eq!(report(&output)["signals"].as_array().unwrap().len(), 2);
    let held = user.held();
    assert_eq!((held["epss"].0, held["kev"].0), (4, 2));
    // Cut short it is no day of data, however much of it can be unpacked.
    let whole = fs::read(folder.join("day.csv.gz")).unwrap();
    user.file("cut.csv.gz", &whole[..whole.len() - 4]);
    user.refused("cut.csv.gz", &["damaged gzip data"]);
}

#[test]
fn what_cannot_be_read_leaves_what_was_known_with_its_date() {
    let user = User::new();
    user.file("kev.json", KEV);
    user.taken("kev.json");
    let before = user.held();
    let stays = "the KEV data of 2026-11-20 stays: 2 rows";

    user.file("wrong.json", KEV.replace("2024-05-30", "May 30"));
    let place = "vulnerabilities[1].dateAdded: \"May 30\", want a date";
    user.refused("wrong.json", &[place, stays, "as KEV"]);
    user.file("cut.json", &KEV.as_bytes()[..KEV.len() / 2]);
    user.refused("cut.json", &["EOF while parsing", "line ", stays]);
    user.file("count.json", KEV.replace("\"count\": 2", "\"count\": 3"));
    user.refused("count.json", &["count: 3, but there are 2 rows", stays]);
    user.file("wrong.csv", KEV_TABLE.replace("CVE-2022-2588", "2588"));
    user.refused("wrong.csv", &["row 4, column cveID: \"2588\"", stays]);
    user.file("older.json", KEV.replace("\"2026-11-20T", "\"2026-11-19T"));
    user.refused(
        "older.json",
        &["older", "2026-11-19", "--allow-rewind", stays],
    );
    user.file("empty", "");
    user.refused("kev=empty", &["empty", stays]);
    user.refused("empty", &["empty", "what the store has stays"]);
    user.file("page.html", "<html>hello</html>");
    user.refused("page.html", &["no known form"]);
    user.refused("missing.json", &["missing.json", "No such file"]);
    user.refused(
        "ftp://host/kev.json",
        &["want a file, a folder, or an http"],
    );
    fs::create_dir(user.folder.path().join("folder")).unwrap();
    user.refused("kev=folder", &["KEV is one file"]);
    user.refused("folder", &["holds neither CVE records"]);
    assert_eq!(user.held(), before);

    let output = user.scan(&["--allow-rewind", "--signals", "older.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", talk(&output));
    assert_eq!(user.held()["kev"].1, "2026-11-19T18:02:11Z");

    let output = user.scan(&["--signals", "keb=kev.json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        talk(&output).contains("keb is no source"),
        "{}",
        talk(&output)
    );
}

#[test]
fn a_table_cut_after_a_row_is_seen_by_what_it_lost() {
    let user = User::new();
    let mut table = EPSS.lines().take(2).collect::<Vec<_>>().join("\n");
    for number in 1000..1100 {
        table += &format!("\nCVE-2024-{number},0.1,0.2");
    }
    table += "\n";
    user.file("day.csv", &table);
    assert_eq!(user.taken("day.csv")["not_in_feed"], 97);
    let cut: Vec<&str> = table.split_inclusive('\n').take(80).collect();
    user.file("cut.csv", cut.concat());
    let words = ["it has 78 rows, and 100 are stored", "--force-shrink"];
    user.refused("cut.csv", &words);
    assert_eq!(user.held()["epss"].0, 100);
    let output = user.scan(&["--force-shrink", "--signals", "cut.csv"]);
    assert_eq!(output.status.code(), Some(0), "{}", talk(&output));
    assert_eq!(user.held()["epss"].0, 78);
}

#[test]
fn one_bad_source_leaves_the_others_alone() {
    let user = User::new();
    user.file("kev.json", KEV);
    user.file("day.csv", EPSS.replace("0.00043", "high"));
    let output = user.scan(&["--signals", "day.csv", "--signals", "kev.json"]);
    assert_eq!(output.status.code(), Some(1));
    let report = report(&output);
    assert_eq!(report["signals"][0]["source"], "kev");
    assert_eq!(
        report["signals_failed"][0]["error"]
            .as_str()
            .unwrap()
            .split(": ")
            .nth(1),
        Some("row 4, column epss")
    );
    assert_eq!(user.held().len(), 1);
}

#[test]
fn a_cve_that_the_feed_does_not_know_is_kept_and_listed() {
    let user = User::new();
    let kev = KEV.replace("\"Linux\"", "\"Vendor\"");
    user.file("kev.json", kev.replace("CVE-2022-2588", "CVE-2022-1"));
    user.refused("kev.json", &["\"CVE-2022-1\""]);
    user.file("kev.json", KEV.replace("CVE-2024-1001", "CVE-2024-9999"));
    let taken = user.taken("kev.json");
    assert_eq!(taken["not_in_feed"], 2);
    assert_eq!(taken["orphans"], json!(["CVE-2022-2588", "CVE-2024-9999"]));
    user.file("list.json", LIST.replace("CVE-2024-1001", "CVE-2024-8888"));
    assert_eq!(user.taken("list.json")["orphans"], json!(["CVE-2024-8888"]));
    let output = user
        .command(&["cve", "signals", "--json"])
        .output()
        .unwrap();
    let orphans = report(&output)["not_in_feed"].clone();
    let cves: Vec<&str> = orphans
        .as_array()
        .unwrap()
        .iter()
        .map(|orphan| orphan["cve"].as_str().unwrap())
        .collect();
    assert_eq!(
        cves,
        [
            "CVE-2022-2588",
            "CVE-2024-8888",
            "CVE-2024-8888",
            "CVE-2024-9999"
        ]
    );
    let output = user.command(&["cve", "signals"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for words in [
        "Linux Kernel: exploited, listed on 2024-05-30, used for ransom",
        "somebody's write-up",
        "2026-11-20",
    ] {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
}

#[test]
fn rows_about_other_software_are_counted_and_not_named() {
    let user = User::new();
    let other = KEV
        .replace("\"Kernel\"", "\"Phone\"")
        .replace("Linux", "Vendor");
    user.file("kev.json", other);
    let taken = user.taken("kev.json");
    assert_eq!(
        (&taken["not_in_feed"], &taken["orphans"]),
        (&json!(1), &json!([]))
    );
    let output = user
        .command(&["cve", "signals", "--json"])
        .output()
        .unwrap();
    let report = report(&output);
    assert_eq!(report["not_about_the_kernel"], 1);
    assert_eq!(report["not_in_feed"], json!([]));
}

#[test]
fn folders_of_records_and_of_kernelctf_are_walked() {
    let user = User::new();
    for number in ["1001", "1002"] {
        let record = RECORD.replace("CVE-2024-1001", &format!("CVE-2024-{number}"));
        user.file(&format!("records/2024/1xxx/CVE-2024-{number}.json"), record);
    }
    user.file("records/README.json", "{}");
    let taken = user.taken("records");
    assert_eq!(
        (&taken["source"], &taken["rows"]),
        (&json!("adp"), &json!(6))
    );
    // An older edition of one record does not take the place of the newer one.
    let older = RECORD.replace("2026-11-19T15", "2026-11-18T15");
    user.file("one.json", older.replace("active", "none"));
    let taken = user.taken("one.json");
    assert_eq!(
        (&taken["passed_over"], &taken["rows"]),
        (&json!(1), &json!(0))
    );

    let top = "research/pocs/linux/kernelctf";
    user.file(&format!("{top}/CVE-2024-1001_lts_cos/metadata.json"), ENTRY);
    user.file(
        &format!("{top}/CVE-2024-1001_lts_cos/exploit/CVE-2024-1.json"),
        "-",
    );
    user.file(
        &format!("{top}/CVE-2024-1001_mitigation/metadata.json"),
        ENTRY,
    );
    user.file("research/README.md", "-");
    let taken = user.taken("research");
    assert_eq!(
        (&taken["source"], &taken["rows"]),
        (&json!("exploits"), &json!(2))
    );

    let path = user.file(&format!("{top}/CVE-2024-1002_lts/metadata.json"), ENTRY);
    let words = "CVE-2024-1002_lts/metadata.json: vulnerability.cve: CVE-2024-1001, want the CVE";
    user.refused("research", &[words]);
    // A folder whose part is missing is a checkout cut short.
    fs::remove_file(path).unwrap();
    user.refused(
        "research",
        &["CVE-2024-1002_lts/metadata.json", "No such file"],
    );
    let one = format!("{top}/CVE-2024-1001_lts_cos/metadata.json");
    user.refused(&one, &["one entry of kernelCTF (want the folder"]);
    user.file("records/2024/1xxx/CVE-2024-1003.json", "{");
    user.refused("records", &["2024/1xxx/CVE-2024-1003.json: EOF"]);
    let held = user.held();
    assert_eq!((held["adp"].0, held["exploits"].0), (6, 2));
}

#[test]
fn lists_of_exploits_make_up_the_whole_together() {
    let user = User::new();
    user.file("list.json", LIST);
    user.file(
        "ctf/CVE-2024-1002_lts/metadata.json",
        ENTRY.replace("1001", "1002"),
    );
    let output = user.scan(&["--signals", "list.json", "--signals", "ctf"]);
    assert_eq!(output.status.code(), Some(0), "{}", talk(&output));
    assert_eq!(report(&output)["signals"][0]["rows"], 3);
    // One of them alone would drop what the other says, when that one cannot be read.
    user.file("list.json", LIST.replace("\"format\": 1", "\"format\": 9"));
    let output = user.scan(&["--signals", "list.json", "--signals", "ctf"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(talk(&output).contains("lists of exploits are taken together"));
    assert_eq!(user.held()["exploits"].0, 3);
}

#[test]
fn a_url_is_fetched_and_its_failures_are_named() {
    let user = User::new();
    // The archive's server serves its own folders alone.
    user.file("public/targets/kev.json", KEV);
    let public = user.folder.path().join("public");
    let server = serve::serve(&public, "127.0.0.1:0", |_, _, _| {}).unwrap();
    let url = |path: &str| format!("http://user:secret@{}/targets/{path}", server.address);
    let taken = user.taken(&url("kev.json"));
    let origin = format!("http://{}/targets/kev.json", server.address);
    assert_eq!(taken["origin"], json!(origin), "no password is kept");
    let before = user.held();
    user.refused(&url("missing"), &["/missing answered 404"]);
    let address = server.address;
    drop(server);
    user.refused(
        &format!("kev=http://{address}/kev.json"),
        &[
            "could not fetch http://",
            "the KEV data of 2026-11-20 stays",
        ],
    );
    assert_eq!(user.held(), before);
}

#[test]
fn people_read_date_age_and_rows_of_each_source() {
    let user = User::new();
    user.file("kev.json", KEV);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let tomorrow = UtcSeconds::from_unix(now.as_secs() + 86_400).to_string();
    let tomorrow = tomorrow.get(..10).unwrap();
    user.file(
        "day.csv",
        EPSS.replace("2026-11-24T", &format!("{tomorrow}T")),
    );
    let output = user
        .command(&["scan", "--signals", "kev.json", "--signals", "day.csv"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len() - 3..];
    assert!(
        tail[0].starts_with("signals       KEV of 2026-11-20 (")
            && tail[0].ends_with("): 2 rows, 1 CVE not in the feed"),
        "{text}"
    );
    assert_eq!(tail[1], "not in feed   CVE-2022-2588");
    // A date to come is a clock that is wrong somewhere, and no age.
    assert_eq!(
        tail[2],
        format!("signals       EPSS of {tomorrow} (of today): 4 rows, 2 CVEs not in the feed")
    );
    user.file("day.csv", EPSS.replace("2026-11-24T", "2099-01-01T"));
    user.refused("day.csv", &["is dated 2099-01-01T12:55:00Z", "clock"]);
}

/// Facts of real CVEs, in the forms the sources would give them.
#[test]
fn corpus_every_fact_of_the_labels_is_read_back() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let corpus = env::var_os("TUXTAPE_CORPUS").map_or(beside, PathBuf::from);
    let Ok(labels) = fs::read_to_string(corpus.join("priority/labels.jsonl")) else {
        eprintln!("skipped: no corpus at {}", corpus.display());
        return;
    };
    let user = User::new();
    let labels: Vec<Value> = labels
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut kev = Vec::new();
    let (mut records, mut entries) = (0, 0);
    for label in &labels {
        let cve = label["cve"].as_str().unwrap();
        if let Some(day) = label["kev"].as_str() {
            kev.push(json!({"cveID": cve, "vendorProject": "Linux", "product": "Kernel", "dateAdded": day}));
        }
        if let Some(options) = label["ssvc"].as_object() {
            let options: Vec<Value> = options
                .iter()
                .map(|(key, value)| json!({key: value}))
                .collect();
            let ssvc = json!({"other": {"type": "ssvc", "content": {"options": options}}});
            let adp = json!([{"providerMetadata": {"shortName": "CISA-ADP"}, "metrics": [ssvc]}]);
            let record = json!({"cveMetadata": {"cveId": cve}, "containers": {"adp": adp}});
            user.file(
                &format!("records/{}/{cve}.json", records % 7),
                record.to_string(),
            );
            records += 1;
        }
        if label["kernelctf"] == json!(true) {
            let needs = &label["kernelctf_req"];
            let needs = json!({"attack_surface": needs["surface"], "capabilities": needs["caps"], "kernel_config": needs["config"]});
            let entry = json!({"vulnerability": {"cve": cve, "requirements": needs}});
            user.file(&format!("ctf/{cve}_lts/metadata.json"), entry.to_string());
            entries += 1;
        }
    }
    let count = kev.len();
    let catalogue = json!({"dateReleased": "2026-11-20", "count": count, "vulnerabilities": kev});
    user.file("kev.json", catalogue.to_string());
    let output = user.scan(&["--signals", "kev.json,records,ctf"]);
    assert_eq!(output.status.code(), Some(0), "{}", talk(&output));
    let held = user.held();
    let rows = ["kev", "adp", "exploits"].map(|source| held[source].0);
    assert!(count > 0 && records > 0 && entries > 0);
    assert_eq!(rows, [count as u64, records, entries]);
}
