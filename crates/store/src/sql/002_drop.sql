DROP TABLE cve_span;
DROP TABLE cve_file;
ALTER TABLE cve DROP COLUMN json_blob;
ALTER TABLE cve DROP COLUMN dyad_blob;
ALTER TABLE cve DROP COLUMN announcement_blob;
ALTER TABLE cve DROP COLUMN twice;
