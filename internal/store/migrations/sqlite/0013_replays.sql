-- +goose Up
-- Answers to requests with an Idempotency-Key. Nothing here can be opened without the key, which the caller alone has.
CREATE TABLE idempotency_keys (
    lookup      text NOT NULL PRIMARY KEY, -- MAC of the caller and the key
    fingerprint text NOT NULL, -- MAC of the request
    owner       text NOT NULL, -- of the request that runs, or ran
    lease_until datetime NOT NULL, -- until when it may run unheard of
    expires_at  datetime NOT NULL,
    generation  integer NOT NULL, -- of the caller after the change, if it grew; else 0
    sealed      blob -- the answer; NULL while the request runs
);
CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at);

-- +goose Down
DROP TABLE idempotency_keys;
