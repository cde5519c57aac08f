"""What happens inside Valkey, in one step each and on keys of one slot.

One hash per question:

    v  value             a  stored at          d  time that generating took
    n  hits              c  confirmations      g  fingerprint of the answer
    w  who stored v      h  holder of the lease   u  leased until   f  the holder is followed
    z  bytes of its events

and, only while a fill is followed, one list of its events. Times are milliseconds of the
server's clock. Nothing of it is read or written anywhere else.
"""

from __future__ import annotations

from services.cache.freshness import HITS_WORTH_A_LIFE, Freshness
from services.cache.storage import EVENTS_MS, LEASE_MS, MAX_EVENTS, MAX_EVENTS_BYTES
from services.cache.valkey.client import Script

_NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"""

_MICROS = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
"""

# The hash of a question without value lives a little longer than its lease.
_LEASED_MS = LEASE_MS + 10_000


class Scripts:
    """The scripts for one freshness policy."""

    def __init__(self, policy: Freshness) -> None:
        constants = f"""
local BASE, LONGEST = {policy.base}, {policy.longest}
local SWR, KEEP = {policy.stale_while_revalidate}, {policy.kept(0)}
local LEASE, LEASED, EVENTS = {LEASE_MS}, {_LEASED_MS}, {EVENTS_MS}
local MAX_EVENTS, MAX_BYTES = {MAX_EVENTS}, {MAX_EVENTS_BYTES}
local function life(n, c)
  return math.min(LONGEST, BASE + math.floor(BASE * n / {HITS_WORTH_A_LIFE}) + BASE * c)
end
"""
        head = constants + _NOW
        self.lookup = Script(head + _LOOKUP)
        self.put = Script(head + _PUT)
        self.renew = Script(head + _RENEW)
        self.read = Script(head + _READ)
        self.release = Script(head + _RELEASE)
        self.confirm = Script(head + _CONFIRM)
        self.evict = Script(_EVICT)
        self.marks = Script(_MICROS + _MARKS)
        self.mark = Script(_MICROS + _MARK)
        self.add_popular = Script(_ADD_POPULAR)
        self.popular = Script(_POPULAR)


# ARGV: holder or '', wanted (1 refresh, 2 fill, 3 both, 0 none), longest age or -1, lot, ahead.
# Answers {state, value, age, life, cost, granted, followed holder}.
# Counting a hit may fail where memory is full (pcall); that must not hide the value.
_LOOKUP = """
local r = redis.call('HMGET', KEYS[1], 'v', 'a', 'd', 'n', 'c', 'u', 'h')
local wanted, state, age, live, due = tonumber(ARGV[2]), 0, 0, 0, false
if r[1] then
  age = math.max(0, now - r[2])
  local n, c, oldest = tonumber(r[4]), tonumber(r[5]), tonumber(ARGV[3])
  live = life(n, c)
  if oldest < 0 or age <= oldest then
    if age < live + SWR then
      state = age < live and 1 or 2
      due = age + math.max(r[3] * ARGV[4], ARGV[5]) >= live
      if state == 1 and ARGV[5] == '0' then
        redis.pcall('HINCRBY', KEYS[1], 'n', 1)
        local longer = life(n + 1, c)
        if longer > live then redis.pcall('PEXPIRE', KEYS[1], longer + KEEP - age) end
      end
    else
      state = 3
    end
  end
end
local granted, follows = 0, ''
if wanted > 0 then
  local served = state == 1 or state == 2
  local held = r[6] and tonumber(r[6]) > now
  if served then
    if due and not held and wanted % 2 == 1 then granted = 1 end
  elseif wanted >= 2 then
    if held and r[7] ~= '' then
      follows = r[7]
      redis.call('HSET', KEYS[1], 'f', '1')
    else
      granted = 1
    end
  end
  if granted == 1 then
    redis.call('HSET', KEYS[1], 'h', ARGV[1], 'u', now + LEASE, 'f', '0', 'z', 0)
    if not r[1] then redis.call('PEXPIRE', KEYS[1], LEASED) end
  end
end
return {state, state > 0 and r[1] or '', age, live, tonumber(r[3] or 0), granted, follows}
"""

# ARGV: holder or '', value, time it took, fingerprint, confirmations.
_PUT = """
local r = redis.call('HMGET', KEYS[1], 'h', 'n', 'c', 'g')
local n, c = 0, tonumber(ARGV[5])
if r[4] and r[4] == ARGV[4] and ARGV[4] ~= '' then
  n, c = tonumber(r[2]), math.min(tonumber(r[3]) + 1, 100)
end
redis.call('HSET', KEYS[1], 'v', ARGV[2], 'a', now, 'd', ARGV[3], 'n', n, 'c', c, 'g', ARGV[4], 'w', ARGV[1])
if ARGV[1] ~= '' and r[1] == ARGV[1] then redis.call('HDEL', KEYS[1], 'h', 'u', 'f', 'z') end
redis.call('PEXPIRE', KEYS[1], life(n, c) + KEEP)
return 1
"""

# KEYS: hash, events. ARGV: holder, index of the first event, events. Answers {holding, events there}.
_RENEW = """
local r = redis.call('HMGET', KEYS[1], 'h', 'f', 'a', 'z')
if r[1] ~= ARGV[1] then return {0, 0} end
redis.call('HSET', KEYS[1], 'u', now + LEASE)
if not r[3] then redis.call('PEXPIRE', KEYS[1], LEASED) end
if r[2] ~= '1' then return {1, 0} end
local have = redis.call('LLEN', KEYS[2])
local size = tonumber(r[4] or 0)
for i = 3, #ARGV do size = size + #ARGV[i] end
if #ARGV > 2 and tonumber(ARGV[2]) == have and have + #ARGV - 2 <= MAX_EVENTS and size <= MAX_BYTES then
  have = redis.call('RPUSH', KEYS[2], unpack(ARGV, 3))
  redis.call('HSET', KEYS[1], 'z', size)
  redis.call('PEXPIRE', KEYS[2], EVENTS)
end
return {2, have}
"""

# KEYS: hash, events. ARGV: holder, first event wanted. Answers {held, value or '', events}.
_READ = """
local events = redis.call('LRANGE', KEYS[2], ARGV[2], -1)
local r = redis.call('HMGET', KEYS[1], 'h', 'u', 'f', 'w')
if r[1] == ARGV[1] and tonumber(r[2]) > now then
  if r[3] ~= '1' then redis.call('HSET', KEYS[1], 'f', '1') end
  return {1, '', events}
end
if r[4] == ARGV[1] then return {0, redis.call('HGET', KEYS[1], 'v') or '', events} end
return {0, '', events}
"""

# KEYS: hash, events. ARGV: holder, last event or '', pause.
_RELEASE = """
local r = redis.call('HMGET', KEYS[1], 'h', 'f', 'a')
if r[1] ~= ARGV[1] then return 0 end
if ARGV[2] ~= '' and r[2] == '1' then
  redis.call('RPUSH', KEYS[2], ARGV[2])
  redis.call('PEXPIRE', KEYS[2], EVENTS)
end
redis.call('HDEL', KEYS[1], 'h', 'u', 'f', 'z')
if r[3] and tonumber(ARGV[3]) > 0 then redis.call('HSET', KEYS[1], 'h', '', 'u', now + ARGV[3]) end
return 1
"""

_CONFIRM = """
local r = redis.call('HMGET', KEYS[1], 'a', 'n', 'c')
if not r[1] then return 0 end
local c = math.min(tonumber(r[3]) + 1, 100)
redis.call('HSET', KEYS[1], 'c', c)
redis.call('PEXPIRE', KEYS[1], math.max(1, life(tonumber(r[2]), c) + KEEP - (now - r[1])))
return 1
"""

_EVICT = """
local there = redis.call('HDEL', KEYS[1], 'v', 'a', 'd', 'n', 'c', 'g', 'w')
return there > 0 and 1 or 0
"""

# Marks: one sorted set, scored by their version (microseconds of the server's clock, made
# to grow). Without it, as after an eviction, everything older than now is dead ('!').
# ARGV: known version. Answers {version, mark, its version, mark, ...}.
_MARKS = """
local top = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if #top == 0 then
  redis.call('ZADD', KEYS[1], now, '!')
  return {string.format('%.0f', now), '!', string.format('%.0f', now)}
end
local reply = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'WITHSCORES')
table.insert(reply, 1, top[2])
return reply
"""

# ARGV: most marks, oldest age in microseconds, marks. Answers their version.
# Too many marks make way for one floor, older public entries with them.
_MARK = """
local top = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if #top == 0 then redis.call('ZADD', KEYS[1], now, '!') else now = math.max(now, tonumber(top[2]) + 1) end
for i = 3, #ARGV do redis.call('ZADD', KEYS[1], now, ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now - ARGV[2]))
if redis.call('ZCARD', KEYS[1]) > tonumber(ARGV[1]) then
  redis.call('DEL', KEYS[1])
  redis.call('ZADD', KEYS[1], now, '!')
end
return string.format('%.0f', now)
"""

# KEYS: tenants, the tenant's counts, its texts. ARGV: tenant, most kept, seconds, (item, count, text)...
_ADD_POPULAR = """
local now = redis.call('TIME')[1]
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3])
for i = 4, #ARGV, 3 do
  redis.call('ZINCRBY', KEYS[2], ARGV[i + 1], ARGV[i])
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 2])
end
local over = redis.call('ZCARD', KEYS[2]) - ARGV[2]
if over > 0 then
  for _, item in ipairs(redis.call('ZRANGE', KEYS[2], 0, over - 1)) do redis.call('HDEL', KEYS[3], item) end
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, over - 1)
end
redis.call('EXPIRE', KEYS[2], ARGV[3])
redis.call('EXPIRE', KEYS[3], ARGV[3])
return 1
"""

# KEYS as above. ARGV: most wanted. Answers {count, text, ...}, the largest count first.
_POPULAR = """
local top = redis.call('ZREVRANGE', KEYS[2], 0, ARGV[1] - 1, 'WITHSCORES')
local reply = {}
for i = 1, #top, 2 do
  local text = redis.call('HGET', KEYS[3], top[i])
  if text then reply[#reply + 1] = top[i + 1]; reply[#reply + 1] = text end
end
return reply
"""
