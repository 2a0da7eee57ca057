-- +goose Up
-- What lists of users are searched and narrowed by. pg_trgm comes with PostgreSQL; the owner of the database may make it.
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE INDEX users_by_search ON users USING gin (search gin_trgm_ops);
CREATE INDEX users_by_team ON users (account_id, team text_pattern_ops);
-- Pages in the order of ids, narrowed by what many users share: the index alone tells who is on the page.
CREATE INDEX users_page ON users (account_id, id) INCLUDE (search, team, status, role, must_change);
DROP INDEX users_by_account; -- its first columns
-- The rare ones. Whoever asks for the others finds them on the first page.
CREATE INDEX users_disabled ON users (account_id, id) WHERE status = 'disabled';
CREATE INDEX users_to_change ON users (account_id, id) WHERE must_change;
CREATE INDEX users_locked ON users (account_id, id) WHERE password_disabled_at IS NOT NULL;
CREATE INDEX users_leading ON users (account_id, id) WHERE role = 'administrator';
DROP INDEX users_administrators; -- its first column
CREATE INDEX throttles_blocked ON throttles (blocked_until) WHERE blocked_until IS NOT NULL;
-- Rare parts of names are told from common ones, and small teams from large ones.
ALTER TABLE users ALTER COLUMN search SET STATISTICS 1000, ALTER COLUMN team SET STATISTICS 1000;
-- A sign-in writes its time beside the old row, touches no index, and soon is no obstacle to reading the index alone.
ALTER TABLE users SET (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02);

-- +goose Down
ALTER TABLE users RESET (fillfactor, autovacuum_vacuum_scale_factor);
ALTER TABLE users ALTER COLUMN search SET STATISTICS -1, ALTER COLUMN team SET STATISTICS -1;
DROP INDEX throttles_blocked;
CREATE INDEX users_administrators ON users (account_id) WHERE role = 'administrator';
DROP INDEX users_leading;
DROP INDEX users_locked;
DROP INDEX users_to_change;
DROP INDEX users_disabled;
CREATE INDEX users_by_account ON users (account_id, id);
DROP INDEX users_page;
DROP INDEX users_by_team;
DROP INDEX users_by_search;
DROP EXTENSION pg_trgm;
