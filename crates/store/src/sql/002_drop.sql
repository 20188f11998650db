DROP TABLE cve_span;
DROP TABLE cve_file;
