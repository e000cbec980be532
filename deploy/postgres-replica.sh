#!/usr/bin/env bash
# Starts PostgreSQL ("$@") on a copy of the primary that follows it. The first start makes the copy; one that was interrupted is
# made anew. PRIMARY says how to connect, PGPASSWORD with what, PGDATA where the copy is.
set -euo pipefail

if [[ ! -s $PGDATA/PG_VERSION ]]; then # also there in one that was promoted, which nothing here may delete
    copy=$PGDATA.copying
    rm -rf "$copy"
    mkdir -p "$(dirname "$PGDATA")"
    pg_basebackup --dbname="$PRIMARY" --pgdata="$copy" --wal-method=stream --slot=replica --checkpoint=fast --write-recovery-conf
    [[ ! -d $PGDATA ]] || rmdir "$PGDATA"
    mv "$copy" "$PGDATA"
fi
exec "$@"
