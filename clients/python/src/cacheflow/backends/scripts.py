"""The scripts of the plain backend. Each names all of its keys, which are one: an entry's, or a version's.

An entry is a hash at its key:
    v  the value                       f  fresh until, ms of Unix time; -1 without end
    w  when it was written, µs         p, q  the lengths of freshness and grace, for TOUCH; -1 none
    t  versions of its tags, JSON: {"name": "hard:soft", …}
    e  its end, ms; -1 without         g  token, u  until when (ms), k  "lock" for a lock's, x  its fence is broken
    r  no new lease before, ms
An entry without v is a lease or lock alone. The hash lasts as long as what of it lasts longest.

A version is a string "hard:soft", the times in µs of a tag's (or namespace's) last invalidations, or of its
first use. An entry whose tag has another hard version is dead, and so it is where the version is gone, evicted
for example: what cannot be proven is a miss.
"""

from __future__ import annotations

import hashlib
from typing import Final

_HEAD = """
local t = redis.call('TIME')
local us = t[1] * 1000000 + t[2]
local now = math.floor(us / 1000)
local k = KEYS[1]
local function num(x) return tonumber(x or 0) or 0 end
-- Integers are printed whole: 2^53 in the default format would lose its last digits.
local function int(x) return string.format('%.0f', x) end
local function held(h) return h[1] and num(h[2]) > now end
local function keep()
  local h = redis.call('HMGET', k, 'v', 'e', 'u', 'r', 'f')
  local last = math.max(num(h[3]), num(h[4]))
  if h[1] then
    if num(h[2]) < 0 then redis.call('PERSIST', k) return end
    last = math.max(last, num(h[2]))
  end
  -- A token is remembered for a while after its lease ran out: it may still fill.
  if num(h[3]) > 0 then last = math.max(last, num(h[3]) + 60000) end
  if last > 0 then redis.call('PEXPIREAT', k, int(last)) end
end
local function life(px, grace)
  local f, e = -1, -1
  if px >= 0 then f = now + px; e = f + math.max(grace, 0) end
  redis.call('HSET', k, 'f', int(f), 'e', int(e), 'p', int(px), 'q', int(grace))
end
-- What a write by another does: a lease is void, a lock's fence is broken.
local function written()
  local h = redis.call('HMGET', k, 'g', 'u', 'k')
  if held(h) and h[3] == 'lock' then redis.call('HSET', k, 'x', '1')
  else redis.call('HDEL', k, 'g', 'u', 'k', 'x') end
  redis.call('HDEL', k, 'r')
end
local function fenced(token)
  local h = redis.call('HMGET', k, 'g', 'x')
  return h[1] == token and not h[2]
end
"""

# ARGV: lease ms (0: grant none), stalest ms accepted (-1 any), bury: the w of an entry found dead or stale, how.
# -> state, value, token, ms, versions, w
_FETCH = """
if ARGV[3] ~= '' and redis.call('HGET', k, 'w') == ARGV[3] then
  if ARGV[4] == 'hard' then
    redis.call('HDEL', k, 'v', 'f', 'e', 'w', 'p', 'q', 't')
    local h = redis.call('HMGET', k, 'g', 'u', 'k')
    if not (held(h) and h[3] == 'lock') then redis.call('HDEL', k, 'g', 'u', 'k', 'x') end
  else
    redis.call('HSET', k, 'f', int(now))
    local h = redis.call('HMGET', k, 'g', 'u', 'k')
    if not (held(h) and h[3] == 'lock') then redis.call('HDEL', k, 'g', 'u', 'k', 'x') end
  end
  keep()
end
if redis.call('TYPE', k).ok == 'string' then
  return {'FRESH', redis.call('GET', k), false, redis.call('PTTL', k), '', ''}
end
local h = redis.call('HMGET', k, 'g', 'u', 'v', 'f', 'e', 't', 'w', 'r')
local e = num(h[5])
local alive = h[3] and (e < 0 or e > now)
local f = num(h[4])
if alive and (f < 0 or f > now) then
  return {'FRESH', h[3], false, f < 0 and -1 or f - now, h[6] or '', h[7]}
end
local stale = alive and (num(ARGV[2]) < 0 or now - f < num(ARGV[2]))
local token = false
local lease = num(ARGV[1])
if lease > 0 and not held(h) and num(h[8]) <= now then
  token = int(math.max(us, num(h[1]) + 1))
  redis.call('HSET', k, 'g', token, 'u', int(now + lease), 'k', 'fetch')
  redis.call('HDEL', k, 'x', 'r')
  keep()
end
if stale then return {'STALE', h[3], token, e - now, h[6] or '', h[7]} end
if token then return {'MISS', false, token, lease, '', ''} end
return {'BUSY', false, false, 25, '', ''}
"""

# ARGV: value, px (-1 none), grace (-1 none), token ('' none), versions, NX, XX or ''.
_STORE = """
local kind = redis.call('TYPE', k).ok
local there = kind ~= 'none'
if kind == 'hash' then
  local h = redis.call('HMGET', k, 'v', 'e')
  there = h[1] and (num(h[2]) < 0 or num(h[2]) > now)
end
if ARGV[6] == 'NX' and there then return 0 end
if ARGV[6] == 'XX' and not there then return 0 end
if ARGV[4] ~= '' then
  if kind ~= 'hash' then return 0 end -- the lease is gone, or somebody's own key is there now
  local ok = fenced(ARGV[4])
  if redis.call('HGET', k, 'g') == ARGV[4] then redis.call('HDEL', k, 'g', 'u', 'k', 'x') end
  if not ok then keep() return 0 end
  redis.call('HDEL', k, 'r')
else
  if kind ~= 'hash' then redis.call('DEL', k) end
  written()
end
redis.call('HSET', k, 'v', ARGV[1], 'w', int(us), 't', ARGV[5])
life(num(ARGV[2]), num(ARGV[3]))
keep()
return 1
"""

# ARGV: px (-1 as last time), grace (-1 as last time), token ('' none), versions.
_TOUCH = """
local h = redis.call('HMGET', k, 'v', 'e', 'p', 'q')
if ARGV[3] ~= '' then
  local ok = fenced(ARGV[3])
  if redis.call('HGET', k, 'g') == ARGV[3] then redis.call('HDEL', k, 'g', 'u', 'k', 'x') end
  if not ok then keep() return 0 end
else
  if h[1] then written() end
end
if not (h[1] and (num(h[2]) < 0 or num(h[2]) > now)) then return 0 end
local px, q = num(ARGV[1]), num(ARGV[2])
if px < 0 then px = num(h[3]) end
if q < 0 then q = num(h[4]) end
life(px, q)
redis.call('HSET', k, 'w', int(us), 't', ARGV[4])
keep()
return 1
"""

_DELETE = """
if redis.call('TYPE', k).ok ~= 'hash' then return redis.call('DEL', k) end
local h = redis.call('HMGET', k, 'g', 'u', 'k', 'v')
if held(h) and h[3] == 'lock' then
  redis.call('HDEL', k, 'v', 'f', 'e', 'w', 'p', 'q', 't', 'r')
  redis.call('HSET', k, 'x', '1')
  keep()
else
  redis.call('DEL', k)
end
return h[4] and 1 or 0
"""

_EXPIRE = """
local h = redis.call('HMGET', k, 'v', 'f')
written()
local fresh = h[1] and (num(h[2]) < 0 or num(h[2]) > now)
if fresh then redis.call('HSET', k, 'f', int(now)) end
return fresh and 1 or 0
"""

# ARGV: by, versions of a new entry.
_INCR = """
local h = redis.call('HMGET', k, 'v', 'e')
if h[1] and num(h[2]) >= 0 and num(h[2]) <= now then
  redis.call('HDEL', k, 'v')
  h[1] = false
end
local sum = redis.call('HINCRBY', k, 'v', ARGV[1])
written()
redis.call('HSET', k, 'w', int(us))
if not h[1] then
  redis.call('HSET', k, 't', ARGV[2])
  life(-1, -1)
end
keep()
return sum
"""

# ARGV: ms.
_LOCK = """
local h = redis.call('HMGET', k, 'g', 'u')
if held(h) then return false end
local token = int(math.max(us, num(h[1]) + 1))
redis.call('HSET', k, 'g', token, 'u', int(now + num(ARGV[1])), 'k', 'lock')
redis.call('HDEL', k, 'x')
keep()
return token
"""

# ARGV: token, retry ms.
_UNLOCK = """
local h = redis.call('HMGET', k, 'g', 'u')
if h[1] ~= ARGV[1] or not held(h) then return 0 end
redis.call('HDEL', k, 'g', 'u', 'k', 'x')
if num(ARGV[2]) > 0 then redis.call('HSET', k, 'r', int(now + num(ARGV[2]))) end
keep()
return 1
"""

# ARGV: token, ms.
_EXTEND = """
local h = redis.call('HMGET', k, 'g', 'u')
if h[1] ~= ARGV[1] or not held(h) then return 0 end
redis.call('HSET', k, 'u', int(now + num(ARGV[2])))
keep()
return 1
"""

# -> fields, or nothing.
_META = """
local h = redis.call('HMGET', k, 'v', 'f', 'e', 't', 'u', 'g')
local e, f = num(h[3]), num(h[2])
local alive = h[1] and (e < 0 or e > now)
local lease = held({h[6], h[5]}) and num(h[5]) - now or 0
if not alive and lease == 0 then return false end
local fresh = f < 0 and -1 or math.max(0, f - now)
return {alive and (fresh ~= 0 and 'fresh' or 'stale') or 'absent', alive and #h[1] or 0, fresh,
        e < 0 and -1 or math.max(0, e - now), h[4] or '', lease, redis.call('HGET', k, 'w') or ''}
"""

# ARGV: the token of a fill or '', ms for which the entry lasts (-1: for ever) -> the version.
_CLAIM = """
local version = redis.call('GET', k)
local ms = num(ARGV[2])
if not version then
  local stamp = ARGV[1] ~= '' and ARGV[1] or int(us)
  version = stamp .. ':' .. stamp
  redis.call('SET', k, version)
  if ms >= 0 then redis.call('PEXPIRE', k, int(ms + 3600000)) end
  return version
end
local left = redis.call('PTTL', k)
if left >= 0 then
  if ms < 0 then redis.call('PERSIST', k)
  elseif left < ms + 60000 then redis.call('PEXPIRE', k, int(ms + 3600000)) end
end
return version
"""

# ARGV: soft or hard, the channel.
_INVALIDATE = """
local version = redis.call('GET', k)
local hard, soft = 0, 0
if version then
  hard, soft = version:match('(%d+):(%d+)')
  hard, soft = num(hard), num(soft)
end
local stamp = math.max(us, hard + 1, soft + 1)
if ARGV[1] == 'hard' or not version then hard = stamp end
if version then redis.call('SET', k, int(hard) .. ':' .. int(stamp), 'KEEPTTL')
else redis.call('SET', k, int(hard) .. ':' .. int(stamp), 'PX', 3600000) end
redis.call('PUBLISH', ARGV[2], ARGV[1])
return 1
"""


class Script:
    """A script with its digest, which EVALSHA is sent first."""

    def __init__(self, body: str) -> None:
        self.source = _HEAD + body
        self.digest = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


FETCH: Final = Script(_FETCH)
STORE: Final = Script(_STORE)
TOUCH: Final = Script(_TOUCH)
DELETE: Final = Script(_DELETE)
EXPIRE: Final = Script(_EXPIRE)
INCR: Final = Script(_INCR)
LOCK: Final = Script(_LOCK)
UNLOCK: Final = Script(_UNLOCK)
EXTEND: Final = Script(_EXTEND)
META: Final = Script(_META)
CLAIM: Final = Script(_CLAIM)
INVALIDATE: Final = Script(_INVALIDATE)
