-- +goose Up
-- The keys that sign events. Access tokens have keys of their own: neither can be taken for the other.
CREATE TABLE event_keys (
    id          text NOT NULL PRIMARY KEY,
    sealed      blob NOT NULL,
    active_from datetime NOT NULL,
    retire_at   datetime
);
-- At most one key is the newest: replicas that start together agree on one.
CREATE UNIQUE INDEX event_keys_newest ON event_keys ((1)) WHERE retire_at IS NULL;

-- +goose Down
DROP TABLE event_keys;
