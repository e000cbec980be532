-- wrk script: POST /orders with limit orders that rest and cross, by several users, each with a price and quantity of its own draw.
--
-- Buys are priced from 100 ticks below the middle to 50 above it, sells the other way round: about an eighth of the pairs cross
-- at entry, and the book fills up on both sides. Buyers and sellers are different users, so that self-trade prevention
-- never cancels. The draw is seeded: every run posts the same orders in each of wrk's threads.
-- API_KEY in the environment is sent with each; USER_KEYS, as buyer1=key,seller1=key, lets each user send a key of its own.
-- Prints one line at the end for the program that started wrk; times in microseconds.

local MIDDLE_TICKS, FAR, NEAR, USERS = 15000, 100, 50, 20
local headers = { ["Content-Type"] = "application/json" }
local threads = 0
local keys = {}

function setup(thread)
  thread:set("seed", 20261122 + threads)
  threads = threads + 1
end

function init(args)
  math.randomseed(seed)
  if os.getenv("API_KEY") then headers["X-API-Key"] = os.getenv("API_KEY") end
  for user, key in (os.getenv("USER_KEYS") or ""):gmatch("([^=,]+)=([^=,]+)") do keys[user] = key end
end

function request()
  local buys = math.random(2) == 1
  local offset = math.random(-FAR, NEAR)
  local ticks = MIDDLE_TICKS + (buys and offset or -offset)
  local user = (buys and "buyer" or "seller") .. math.random(USERS)
  headers["X-API-Key"] = keys[user] or headers["X-API-Key"]
  local body = string.format('{"user_id":"%s","symbol":"BENCH","side":"%s","type":"LIMIT","quantity":"%d","price":"%d.%02d"}',
    user, buys and "BUY" or "SELL", math.random(100), math.floor(ticks / 100), ticks % 100)
  return wrk.format("POST", "/orders", headers, body)
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("RESULT requests=%d duration=%d non_2xx=%d socket_errors=%d p50=%d p99=%d\n",
    summary.requests, summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
