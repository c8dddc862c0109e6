-- Adds a change of what is no document to the audit log.
--
-- KEYS 1 audit log
-- ARGV 1 actor  2 action  3 resource  4 tenant  5 text before  6 text after
-- Result 1
--
-- Keeps: entries are in the order in which they came; about the newest AUDIT_MAX are kept.
-- use: audit

audit(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
return 1
