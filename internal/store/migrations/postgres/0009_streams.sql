-- +goose Up
-- Shared Signals: what other services hear, and how.
CREATE TABLE streams (
    id          text PRIMARY KEY,
    client_id   text NOT NULL CONSTRAINT streams_client UNIQUE REFERENCES clients (id), -- one stream per receiver
    audience    text NOT NULL,
    method      text NOT NULL CHECK (method IN ('urn:ietf:rfc:8935', 'urn:ietf:rfc:8936')),
    endpoint    text NOT NULL, -- where to push
    sealed      bytea, -- the Authorization header to push with
    requested   text, -- JSON array of event types; NULL: all that are supported
    description text NOT NULL,
    status      text NOT NULL CHECK (status IN ('enabled', 'paused', 'disabled')),
    reason      text NOT NULL, -- of the status
    created_at  timestamptz NOT NULL,
    verified_at timestamptz, -- when the last verification was queued
    revision    bigint NOT NULL,
    failures    integer NOT NULL DEFAULT 0, -- of pushes, in a row
    resume_at   timestamptz, -- nothing is pushed before
    last_error  text NOT NULL DEFAULT ''
);

-- Whom a stream hears of. Without a rule: everybody that its client may see.
CREATE TABLE stream_rules (
    stream_id  text NOT NULL REFERENCES streams (id) ON DELETE CASCADE,
    account_id text NOT NULL, -- '*': every account
    user_id    text NOT NULL, -- '': the whole account
    included   boolean NOT NULL,
    PRIMARY KEY (stream_id, account_id, user_id)
);

-- Events that wait to be delivered, written with the change they tell of, and dead letters. A delivered one is gone.
CREATE TABLE stream_deliveries (
    sequence   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- in the order of the changes of a user
    jti        text NOT NULL CONSTRAINT stream_deliveries_jti UNIQUE,
    stream_id  text NOT NULL REFERENCES streams (id) ON DELETE CASCADE,
    subject    text NOT NULL, -- what the order is kept for: a user id, or what begins with ~ of the stream itself
    type       text NOT NULL,
    account_id text NOT NULL,
    session_id text NOT NULL,
    txn        text NOT NULL,
    claims     text NOT NULL, -- JSON
    created_at timestamptz NOT NULL,
    due_at     timestamptz NOT NULL, -- not pushed before; while leased, when the lease ends
    attempts   integer NOT NULL DEFAULT 0,
    lease      text NOT NULL DEFAULT '',
    dead_at    timestamptz, -- since when it is a dead letter
    dead_why   text NOT NULL DEFAULT ''
);
CREATE INDEX stream_deliveries_waiting ON stream_deliveries (stream_id, sequence) WHERE dead_at IS NULL;
CREATE INDEX stream_deliveries_by_subject ON stream_deliveries (stream_id, subject, sequence) WHERE dead_at IS NULL;
CREATE INDEX stream_deliveries_due ON stream_deliveries (stream_id, due_at) WHERE dead_at IS NULL;
CREATE INDEX stream_deliveries_dead ON stream_deliveries (stream_id, dead_at) WHERE dead_at IS NOT NULL;

-- +goose Down
DROP TABLE stream_deliveries, stream_rules, streams;
