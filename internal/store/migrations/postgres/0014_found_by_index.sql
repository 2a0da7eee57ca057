-- +goose Up
-- What narrows a list is found from one index alone, together with whatever else is asked for.
DROP INDEX users_by_team;
CREATE INDEX users_by_team ON users (account_id, team text_pattern_ops) INCLUDE (id, search, status, role, must_change);
DROP INDEX users_disabled;
CREATE INDEX users_disabled ON users (account_id, id) INCLUDE (search, team, role, must_change) WHERE status = 'disabled';
DROP INDEX users_to_change;
CREATE INDEX users_to_change ON users (account_id, id) INCLUDE (search, team, status, role) WHERE must_change;
DROP INDEX users_leading;
CREATE INDEX users_leading ON users (account_id, id) INCLUDE (search, team, status, must_change) WHERE role = 'administrator';

-- +goose Down
DROP INDEX users_leading;
CREATE INDEX users_leading ON users (account_id, id) WHERE role = 'administrator';
DROP INDEX users_to_change;
CREATE INDEX users_to_change ON users (account_id, id) WHERE must_change;
DROP INDEX users_disabled;
CREATE INDEX users_disabled ON users (account_id, id) WHERE status = 'disabled';
DROP INDEX users_by_team;
CREATE INDEX users_by_team ON users (account_id, team text_pattern_ops);
