-- Waiting calls are given up. ARGV  7 tier, then per call four: entry, priority, tenant, tokens
local QUANTUM = 256
local tier = ARGV[7]
local given_up = 0
for index = 8, #ARGV, 4 do
  local entry = ARGV[index]
  local gone = redis.call('ZREM', prefix .. 'queue:' .. tier, entry)
  if gone == 0 then gone = redis.call('ZREM', prefix .. 'parked:' .. tier .. ':' .. member, entry) end
  local rounds, account = prefix .. 'rounds:' .. tier, ARGV[index + 1] .. ARGV[index + 2]
  if gone == 1 and redis.call('HEXISTS', rounds, account) == 1 then
    -- What was not served is not paid for.
    redis.call('HINCRBYFLOAT', rounds, account, -math.max(tonumber(ARGV[index + 3]), QUANTUM))
  end
  given_up = given_up + gone
end
return {'left', given_up}
