-- What the last scan took in. One row, once there was a scan.
CREATE TABLE feed (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- URL, folder or bundle.
    source TEXT NOT NULL,
    commit_id BLOB NOT NULL,
    -- Seconds since 1970 UTC.
    commit_time INTEGER NOT NULL,
    -- Edition of the reader that made the rows; another one reads everything again.
    reader INTEGER NOT NULL
) STRICT;

-- One row per record; the key is year * 10^10 + number, so that it orders as CVE ids do.
CREATE TABLE cve (
    cve INTEGER PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('published', 'rejected')),
    title TEXT NOT NULL,
    description TEXT NOT NULL,
    cvss_vector TEXT,
    cvss_tenths INTEGER CHECK (cvss_tenths BETWEEN 0 AND 100),
    rejection TEXT,
    -- JSON array of texts.
    doubts TEXT NOT NULL,
    -- JSON array of versions.
    disputes TEXT NOT NULL,
    -- The edition: which files of the feed the row was made from.
    json_blob BLOB NOT NULL,
    dyad_blob BLOB,
    announcement_blob BLOB,
    twice INTEGER NOT NULL CHECK (twice IN (0, 1)),
    -- The feed commit whose scan brought this edition.
    feed_commit BLOB NOT NULL
) STRICT;

CREATE TABLE cve_span (
    cve INTEGER NOT NULL REFERENCES cve (cve),
    n INTEGER NOT NULL,
    introduced_version TEXT,
    introduced_commit BLOB,
    fixed_version TEXT,
    fixed_commit BLOB,
    PRIMARY KEY (cve, n),
    CHECK ((introduced_version IS NULL) = (introduced_commit IS NULL)),
    CHECK ((fixed_version IS NULL) = (fixed_commit IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE cve_file (
    cve INTEGER NOT NULL REFERENCES cve (cve),
    path TEXT NOT NULL,
    PRIMARY KEY (cve, path)
) STRICT, WITHOUT ROWID;

-- Records of the feed whose newest edition could not be read. Where `cve` has a row too, that is the
-- last good edition.
CREATE TABLE cve_skipped (
    cve INTEGER PRIMARY KEY,
    -- File, line and reason.
    why TEXT NOT NULL
) STRICT;
