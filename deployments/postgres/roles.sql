-- The two roles of the credentials service, and what each may do. PostgreSQL 15 or later.
--
--   credentials_owner    owns the database and its tables; only `credentialsd migrate up` and `credentialsd audit prune` use it
--   credentials_service  what `credentialsd serve` and `credentialsd user create` use: it reads and writes rows, cannot
--                        change the schema, and can neither change nor remove what the audit log says
--
-- Run it with psql in the service's database, twice: before the first migration as a superuser (it makes the roles and
-- hands over the database), and after every migration as credentials_owner (it grants what new tables need). It can be
-- run at any time, also while the service works. A table that it was not run for stays closed to the service. Where a
-- provider gives nobody a superuser, make the two roles and hand over the database by hand, then run it as the owner.
--
--   psql -v ON_ERROR_STOP=1 -f roles.sql postgres://.../credentials
--
-- The roles are made without a password: set one with \password, or let psql find it in the environment variables
-- CREDENTIALS_OWNER_PASSWORD and CREDENTIALS_SERVICE_PASSWORD when the superuser runs this.

BEGIN;

SELECT rolsuper AS superuser FROM pg_roles WHERE rolname = current_user \gset

\if :superuser
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['credentials_owner', 'credentials_service'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', wanted);
        END IF;
    END LOOP;
    -- The owner of a database is the owner of its schema public.
    EXECUTE format('ALTER DATABASE %I OWNER TO credentials_owner', current_database());
    -- Nobody else gets in, and the service makes no temporary tables.
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO credentials_service', current_database());
END
$$;

-- Passwords must not reach the server's log.
SET LOCAL log_statement = 'none';
SET LOCAL log_min_error_statement = 'panic';
SET LOCAL log_min_duration_statement = -1;
\getenv owner_password CREDENTIALS_OWNER_PASSWORD
\if :{?owner_password}
ALTER ROLE credentials_owner PASSWORD :'owner_password';
\endif
\getenv service_password CREDENTIALS_SERVICE_PASSWORD
\if :{?service_password}
ALTER ROLE credentials_service PASSWORD :'service_password';
\endif
\endif

-- Each table anew, so that this text alone says what the service may do.
DO $$
DECLARE
    this   record;
    rights text;
BEGIN
    FOR this IN SELECT schemaname, tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        rights := CASE
            WHEN this.tablename IN ('audit_events', 'audit_seals') THEN 'SELECT, INSERT' -- append-only
            WHEN this.tablename = 'audit_checkpoints' THEN 'SELECT' -- what is pruned is the operator's affair
            WHEN this.tablename = 'goose_db_version' THEN 'SELECT' -- to see that migrations are done
            ELSE 'SELECT, INSERT, UPDATE, DELETE'
        END;
        EXECUTE format('REVOKE ALL ON TABLE %I.%I FROM PUBLIC, credentials_service', this.schemaname, this.tablename);
        EXECUTE format('GRANT %s ON TABLE %I.%I TO credentials_service', rights, this.schemaname, this.tablename);
    END LOOP;
END
$$;

COMMIT;
