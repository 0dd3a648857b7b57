/**
 * The scripts of a server without the module. An entry is a hash at its key:
 *
 * | field | holds |
 * | --- | --- |
 * | `v` | the value; absent where there is only a lease |
 * | `b` | when it was born, µs of Unix time by the server's clock |
 * | `f` | fresh until, ms; -1: for ever |
 * | `g` | gone after, ms; -1: never |
 * | `n` | the lengths of freshness and grace, for a touch that names none |
 * | `t` | its tags, as JSON |
 * | `l`, `u`, `k` | a lease's or lock's token, until when (ms), and which (`f`, `l`) |
 * | `x` | there where somebody else has written under a lock: its fence is broken, the lock is not |
 *
 * Lease and value share a key so that they share a hash slot and go together: what deletes the key voids the lease.
 * The key's own TTL is the later end of the two. Tags and namespaces have marks, hashes of their own that may be in
 * another slot: `h` and `s` when they were last invalidated, hard and soft, `c` when the mark was made. So a caller
 * passes what it has read of those, as `hard` and `soft`: an entry born no later than that is dead, or stale. Whoever
 * stores an entry makes the marks that it lacks, and makes them outlast it: a mark that is missing has been lost, and
 * with it what it knew, so the entry is dead.
 *
 * The scripts name only the key that they are given, and so run as they are in a cluster.
 */
const REMEMBERED = 60_000; // ms for which a lease that ran out may still fill
const HEAD = `
local key = KEYS[1]
local t = redis.call('TIME')
local us = t[1] * 1000000 + t[2]
local now = math.floor(us / 1000)
local function fields(...) return redis.call('HMGET', key, ...) end
local function int(n) return string.format('%.0f', n) end
local function keep()
  local e = fields('v', 'g', 'l', 'u')
  local ends = 0
  if e[1] then if e[2] == '-1' then ends = -1 else ends = tonumber(e[2]) end end
  if e[3] and ends >= 0 then ends = math.max(ends, tonumber(e[4]) + ${String(REMEMBERED)}) end
  if not e[1] and not e[3] then redis.call('DEL', key)
  elseif ends < 0 then redis.call('PERSIST', key)
  else redis.call('PEXPIREAT', key, int(ends)) end
end
local function held(kind)
  local e = fields('l', 'u', 'k')
  if e[1] and tonumber(e[2]) > now and (not kind or e[3] == kind) then return e[1], tonumber(e[2]) - now end
end
local function grant(ms, kind)
  local last = tonumber(fields('l')[1] or '0')
  local token = int(math.max(us, last + 1))
  redis.call('HSET', key, 'l', token, 'u', int(now + ms), 'k', kind)
  redis.call('HDEL', key, 'x')
  keep()
  return tonumber(token)
end
local function void() redis.call('HDEL', key, 'l', 'u', 'k', 'x') end
local function written()
  if held('l') then redis.call('HSET', key, 'x', '1') else void() end
end
local function refused(token, hard, soft)
  local e = fields('l', 'x')
  if e[1] ~= token then return true end
  void()
  return e[2] or math.max(hard, soft) >= tonumber(token)
end
local function live(hard, soft)
  local e = fields('v', 'b', 'f', 'g')
  if not e[1] then return nil end
  local born, fresh, gone = tonumber(e[2]), tonumber(e[3]), tonumber(e[4])
  if born <= hard or (gone >= 0 and gone <= now) then return nil end
  if born <= soft and (fresh < 0 or fresh > now) then fresh = now end
  return e[1], fresh, gone
end
`;

const script = (body: string): string => HEAD + body;

/** ARGV hard soft → [value, fresh for ms or -1, gone after ms or -1, tags, born µs, state] or nil */
export const READ = script(`
local v, fresh, gone = live(tonumber(ARGV[1]), tonumber(ARGV[2]))
if not v then return false end
local e = fields('t', 'b')
local state = (fresh < 0 or fresh > now) and 'FRESH' or 'STALE'
return {v, fresh < 0 and -1 or math.max(0, fresh - now), gone < 0 and -1 or gone - now, e[1], e[2], state}
`);

/** ARGV hard soft lease maxstale(-1: any) → [state, value, token, ms, tags, born] */
export const FETCH = script(`
local v, fresh, gone = live(tonumber(ARGV[1]), tonumber(ARGV[2]))
local e = fields('t', 'b')
if v and (fresh < 0 or fresh > now) then
  return {'FRESH', v, false, fresh < 0 and -1 or fresh - now, e[1], e[2]}
end
local most = tonumber(ARGV[4])
local usable = v and (most < 0 or now - fresh <= most)
local token, left = held()
if token then
  if usable then return {'STALE', v, false, gone < 0 and -1 or gone - now, e[1], e[2]} end
  return {'BUSY', false, false, math.min(left, 50), false, false}
end
token = grant(tonumber(ARGV[3]), 'f')
if usable then return {'STALE', v, token, gone < 0 and -1 or gone - now, e[1], e[2]} end
return {'MISS', false, token, tonumber(ARGV[3]), false, false}
`);

/** ARGV value token|'' when|'' ttl|'' grace tags hard soft → 1 or 0. With a token, what was invalidated since refuses. */
export const SET = script(`
local hard, soft = tonumber(ARGV[7]), tonumber(ARGV[8])
if redis.call('TYPE', key).ok ~= 'hash' then redis.call('DEL', key) end
if ARGV[2] ~= '' then
  if refused(ARGV[2], hard, soft) then keep() return 0 end
else
  local v = live(hard, soft)
  if (ARGV[3] == 'absent' and v) or (ARGV[3] == 'present' and not v) then return 0 end
  written()
end
local fresh, gone = -1, -1
if ARGV[4] ~= '' then fresh = now + tonumber(ARGV[4]) gone = fresh + tonumber(ARGV[5]) end
redis.call('HSET', key, 'v', ARGV[1], 'b', int(us), 'f', int(fresh), 'g', int(gone), 'n', ARGV[4] .. ' ' .. ARGV[5], 't', ARGV[6])
keep()
return 1
`);

/** ARGV token|'' ttl|'' grace|'' hard soft → 1 or 0 */
export const TOUCH = script(`
local hard, soft = tonumber(ARGV[4]), tonumber(ARGV[5])
if ARGV[1] ~= '' then
  if refused(ARGV[1], hard, soft) then keep() return 0 end
else written() end
if not live(hard, soft) then keep() return 0 end
local ttl, grace = string.match(fields('n')[1], '^(%d*) (%d*)$')
if ARGV[2] ~= '' then ttl = ARGV[2] grace = ARGV[3] elseif ARGV[3] ~= '' then grace = ARGV[3] end
local fresh, gone = -1, -1
if ttl ~= '' then fresh = now + tonumber(ttl) gone = fresh + tonumber(grace == '' and '0' or grace) end
redis.call('HSET', key, 'b', int(us), 'f', int(fresh), 'g', int(gone), 'n', ttl .. ' ' .. grace)
keep()
return 1
`);

/** ARGV hard soft → 1 if there was a live entry. A lock stays. */
export const DELETE = script(`
local was = live(tonumber(ARGV[1]), tonumber(ARGV[2])) and 1 or 0
if redis.call('TYPE', key).ok ~= 'hash' then return redis.call('DEL', key) end
redis.call('HDEL', key, 'v', 'b', 'f', 'g', 'n', 't')
written()
keep()
return was
`);

/** ARGV hard soft → 1 if it was fresh and is stale now */
export const EXPIRE = script(`
local v, fresh, gone = live(tonumber(ARGV[1]), tonumber(ARGV[2]))
written()
if not v or (fresh >= 0 and fresh <= now) then keep() return 0 end
redis.call('HSET', key, 'f', int(now))
keep()
return 1
`);

/** ARGV by hard soft → the new integer */
export const INCREMENT = script(`
if not live(tonumber(ARGV[2]), tonumber(ARGV[3])) then
  redis.call('HDEL', key, 'v')
  redis.call('HSET', key, 'f', '-1', 'g', '-1', 'n', ' 0', 't', '[]')
end
local n = redis.call('HINCRBY', key, 'v', ARGV[1])
redis.call('HSET', key, 'b', int(us))
written()
keep()
return n
`);

/** ARGV ms → token or nil */
export const LOCK = script(`
if held() then return false end
return grant(tonumber(ARGV[1]), 'l')
`);

/** ARGV token retry|'' → 1 or 0 */
export const UNLOCK = script(`
if held() ~= ARGV[1] then return 0 end
if ARGV[2] ~= '' then redis.call('HSET', key, 'l', int(us), 'u', int(now + tonumber(ARGV[2])), 'k', 'f') else void() end
keep()
return 1
`);

/** ARGV token ms → 1 or 0 */
export const EXTEND = script(`
if held() ~= ARGV[1] then return 0 end
redis.call('HSET', key, 'u', int(now + tonumber(ARGV[2])))
keep()
return 1
`);

/** ARGV hard soft → [state, bytes, fresh ms, ttl ms, age ms, tags, lease ms] or nil */
export const META = script(`
local v, fresh, gone = live(tonumber(ARGV[1]), tonumber(ARGV[2]))
local _, left = held()
if not v then
  if left then return {'absent', 0, 0, 0, 0, '[]', left} end
  return false
end
local e = fields('b', 't')
local state = (fresh < 0 or fresh > now) and 'fresh' or 'stale'
return {state, #v, fresh < 0 and -1 or math.max(0, fresh - now), gone < 0 and -1 or gone - now,
  math.floor((us - tonumber(e[1])) / 1000), e[2], left or 0}
`);

const STAMP = `
local t = redis.call('TIME')
local us = t[1] * 1000000 + t[2]
local function int(n) return string.format('%.0f', n) end
`;

/** On a mark. ARGV h|s kept-for-ms → the time of the invalidation, µs */
export const MARK = `${STAMP}
local e = redis.call('HMGET', KEYS[1], ARGV[1], 'c')
local stamp = int(math.max(us, tonumber(e[1] or '0') + 1))
redis.call('HSET', KEYS[1], ARGV[1], stamp)
if not e[2] then redis.call('HSET', KEYS[1], 'c', int(us)) end
local left = redis.call('PTTL', KEYS[1])
if not e[2] or (left >= 0 and left < tonumber(ARGV[2])) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return tonumber(stamp)
`;

/** On a mark, made where it is missing. ARGV kept-for-ms, '' for ever → [h, s] */
export const ENSURE = `${STAMP}
local new = redis.call('HSETNX', KEYS[1], 'c', int(us)) == 1
if ARGV[1] == '' then redis.call('PERSIST', KEYS[1])
else
  local left = redis.call('PTTL', KEYS[1])
  if new or (left >= 0 and left < tonumber(ARGV[1])) then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
end
return redis.call('HMGET', KEYS[1], 'h', 's')
`;
