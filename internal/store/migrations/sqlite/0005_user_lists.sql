-- +goose Up
-- What lists of users are narrowed by. A search looks at every user of the account: SQLite is for small installations.
CREATE INDEX users_by_team ON users (account_id, team);
CREATE INDEX users_disabled ON users (account_id, id) WHERE status = 'disabled';
CREATE INDEX users_to_change ON users (account_id, id) WHERE must_change;
CREATE INDEX users_locked ON users (account_id, id) WHERE password_disabled_at IS NOT NULL;
CREATE INDEX throttles_blocked ON throttles (blocked_until) WHERE blocked_until IS NOT NULL;

-- +goose Down
DROP INDEX throttles_blocked;
DROP INDEX users_locked;
DROP INDEX users_to_change;
DROP INDEX users_disabled;
DROP INDEX users_by_team;
