-- +goose Up
-- A client has more than one secret while they are rotated.
CREATE TABLE client_secrets (
    digest     text NOT NULL PRIMARY KEY, -- hex SHA-256
    client_id  text NOT NULL REFERENCES clients (id),
    created_at datetime NOT NULL,
    expires_at datetime -- NULL: until the next rotation
);
CREATE INDEX client_secrets_by_client ON client_secrets (client_id);
INSERT INTO client_secrets (digest, client_id, created_at) SELECT secret_hash, id, created_at FROM clients WHERE secret_hash <> '';
-- clients.secret_hash goes on holding the newest for the release before, which knows no other.

-- Whom a service said it acts for.
ALTER TABLE audit_events ADD COLUMN on_behalf_of text NOT NULL DEFAULT '';

-- Since when the user has the present generation: tokens of other issuers, which do not name one, must be younger.
-- NULL: it is the first.
ALTER TABLE users ADD COLUMN generation_since datetime;
UPDATE users SET generation_since = strftime('%Y-%m-%d %H:%M:%f+00:00', 'now') WHERE generation > 1;

-- +goose Down
ALTER TABLE users DROP COLUMN generation_since;
ALTER TABLE audit_events DROP COLUMN on_behalf_of;
DROP TABLE client_secrets;
