-- How each record is fixed, read at once and never asked for in parts: spans in one value, in the
-- form of `spans`. Only published records have a row.
CREATE TABLE cve_lines (
    cve INTEGER PRIMARY KEY REFERENCES cve (cve),
    spans BLOB NOT NULL,
    -- Whether the record contradicts itself.
    doubtful INTEGER NOT NULL CHECK (doubtful IN (0, 1)),
    -- JSON array of versions.
    disputes TEXT NOT NULL
) STRICT;

-- JSON arrays of texts.
ALTER TABLE cve ADD COLUMN files TEXT NOT NULL DEFAULT '[]';
ALTER TABLE cve ADD COLUMN cvss_reasons TEXT NOT NULL DEFAULT '[]';
ALTER TABLE cve ADD COLUMN web TEXT NOT NULL DEFAULT '[]';
-- Commit ids, 20 bytes each.
ALTER TABLE cve ADD COLUMN mainline_fixes BLOB;
-- Which files of the feed each record was made from. A table of its own: every scan reads all of it,
-- and a row of `cve` is a hundred times as long.
CREATE TABLE cve_edition (
    cve INTEGER PRIMARY KEY REFERENCES cve (cve),
    state TEXT NOT NULL,
    json_blob BLOB NOT NULL,
    dyad_blob BLOB,
    announcement_blob BLOB,
    cvss_blob BLOB,
    reference_blob BLOB,
    sha1_blob BLOB,
    twice INTEGER NOT NULL CHECK (twice IN (0, 1)),
    -- Whether the record contradicts itself, or its readings differ somewhere.
    doubtful INTEGER NOT NULL CHECK (doubtful IN (0, 1))
) STRICT;
INSERT INTO cve_edition (cve, state, json_blob, dyad_blob, announcement_blob, twice, doubtful)
    SELECT cve, state, json_blob, dyad_blob, announcement_blob, twice,
        CASE WHEN doubts != '[]' OR disputes != '[]' THEN 1 ELSE 0 END
    FROM cve;

-- The commit up to which dates were read.
ALTER TABLE feed ADD COLUMN dates_commit BLOB;

-- When records were published and last changed, as far as the feed's history says. Rows stay when a
-- record goes. Seconds since 1970 UTC.
CREATE TABLE cve_dates (
    cve INTEGER PRIMARY KEY,
    published INTEGER NOT NULL,
    -- 0 where the history at hand begins with the record already in it: it was published by then.
    exact INTEGER NOT NULL CHECK (exact IN (0, 1)),
    changed INTEGER NOT NULL
) STRICT;

-- What later scans found changed; the first scan leaves no rows.
CREATE TABLE cve_history (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    cve INTEGER NOT NULL,
    feed_commit BLOB NOT NULL,
    feed_time INTEGER NOT NULL,
    change TEXT NOT NULL
) STRICT;
CREATE INDEX cve_history_cve ON cve_history (cve);

-- What is known from each outside source, and how old it is.
CREATE TABLE signal_source (
    source TEXT PRIMARY KEY,
    -- File or URL.
    origin TEXT NOT NULL,
    -- The date the data gives itself; seconds since 1970 UTC.
    dated INTEGER,
    -- When it was read.
    taken INTEGER NOT NULL
) STRICT;

-- Which CVEs the partial files of a source spoke about, and the date of the last.
CREATE TABLE signal_named (
    source TEXT NOT NULL,
    cve INTEGER NOT NULL,
    dated INTEGER,
    PRIMARY KEY (source, cve)
) STRICT, WITHOUT ROWID;

-- Rows of all sources but EPSS; `detail` is JSON by `kind`.
CREATE TABLE signal (
    source TEXT NOT NULL,
    cve INTEGER NOT NULL,
    n INTEGER NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (source, cve, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX signal_cve ON signal (cve);

-- A table of its own, for its hundreds of thousands of rows. In parts per million.
CREATE TABLE signal_epss (
    cve INTEGER PRIMARY KEY,
    probability INTEGER NOT NULL,
    percentile INTEGER NOT NULL
) STRICT;

-- Triage. Rows are only ever added.
CREATE TABLE decision (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    cve INTEGER NOT NULL,
    -- NULL for all kernels.
    kernel TEXT,
    choice TEXT NOT NULL CHECK (choice IN ('accept', 'defer', 'ignore')),
    who TEXT NOT NULL,
    why TEXT NOT NULL,
    at INTEGER NOT NULL,
    -- NULL for good.
    until INTEGER
) STRICT;
CREATE INDEX decision_cve ON decision (cve);

-- The outbox: what people should hear of, each once.
CREATE TABLE notice (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    at INTEGER NOT NULL,
    cve INTEGER,
    kernel TEXT,
    subject TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;

-- Ways to tell people. Notices older than `since` are not told there.
CREATE TABLE channel (
    name TEXT PRIMARY KEY,
    since INTEGER NOT NULL
) STRICT;

-- How telling went; no row before the first try.
CREATE TABLE delivery (
    channel TEXT NOT NULL REFERENCES channel (name),
    notice INTEGER NOT NULL REFERENCES notice (sequence),
    state TEXT NOT NULL CHECK (state IN ('waiting', 'delivered', 'gave-up')),
    tries INTEGER NOT NULL,
    -- When it was delivered or given up, else when to try again.
    at INTEGER NOT NULL,
    -- What the last failed try said.
    why TEXT,
    PRIMARY KEY (channel, notice)
) STRICT, WITHOUT ROWID;

-- Who scans, where a lock file cannot say.
CREATE TABLE scan_holder (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    note TEXT NOT NULL
) STRICT;
