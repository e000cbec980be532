#!/usr/bin/env bash
# Run once, when the primary's database is made: the role and the slot that the replica streams with.
set -euo pipefail

psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set=password="$REPLICATION_PASSWORD" \
    --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" >/dev/null <<'SQL'
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'password';
SELECT pg_create_physical_replication_slot('replica', true);
SQL
echo 'host replication replicator all scram-sha-256' >>"$PGDATA/pg_hba.conf"
