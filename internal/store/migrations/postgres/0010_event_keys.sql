-- +goose Up
-- The keys that sign events. Access tokens have keys of their own: neither can be taken for the other.
CREATE TABLE event_keys (
    id          text PRIMARY KEY,
    sealed      bytea NOT NULL,
    active_from timestamptz NOT NULL,
    retire_at   timestamptz
);
-- At most one key is the newest: replicas that start together agree on one.
CREATE UNIQUE INDEX event_keys_newest ON event_keys ((1)) WHERE retire_at IS NULL;

-- +goose Down
DROP TABLE event_keys;
