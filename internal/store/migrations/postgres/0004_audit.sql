-- +goose Up
-- Where a chain begins after its older events were pruned. The operator writes it; the service's role may SELECT.
CREATE TABLE audit_checkpoints (
    account_id text NOT NULL,
    sequence   bigint NOT NULL, -- of the last link that is gone
    chain      text NOT NULL,
    pruned_at  timestamptz NOT NULL,
    PRIMARY KEY (account_id, sequence)
);
CREATE INDEX audit_events_by_actor ON audit_events (account_id, actor_id, at, id) WHERE actor_id <> '';
CREATE INDEX audit_events_by_action ON audit_events (account_id, action, at, id);

-- +goose Down
DROP INDEX audit_events_by_action;
DROP INDEX audit_events_by_actor;
DROP TABLE audit_checkpoints;
