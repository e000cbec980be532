#!/bin/sh
# The life of an order, by curl: entered, changed in place, explained, traded, cancelled. OME_URL says where the service is.
set -eu
url=${OME_URL:-http://127.0.0.1:5000}
symbol=CURL$$

call() { # METHOD PATH [JSON]: the answer; an error says what was wrong
  curl -sS --fail-with-body --retry 5 -X "$1" "$url$2" -H 'Content-Type: application/json' ${3:+-d "$3"}
  echo
}
id_of() { sed -n 's/.*"order_id": *"\([0-9]*\)".*/\1/p' | head -n 1; }

echo "A sell order comes to rest:"
sell=$(call POST /orders '{"user_id":"alice","symbol":"'$symbol'","side":"SELL","quantity":"10","price":"150.50"}')
echo "$sell"
order=$(echo "$sell" | id_of)

echo "Its quantity is lowered, and it keeps its place in the queue:"
call PUT "/orders/$order" '{"quantity":"8"}'

echo "Why isn't it filled?"
call GET "/orders/$order/explain"

echo "What would a buy order get? Nothing happens in a dry run:"
call POST '/orders?dry_run=true' '{"user_id":"bob","symbol":"'$symbol'","side":"BUY","quantity":"3","type":"MARKET"}'

echo "It gets that:"
call POST /orders '{"user_id":"bob","symbol":"'$symbol'","side":"BUY","quantity":"3","type":"MARKET"}'

echo "What is left is cancelled:"
call DELETE "/orders/$order"

echo "All that ever happened to it:"
call GET "/orders/$order/history"
