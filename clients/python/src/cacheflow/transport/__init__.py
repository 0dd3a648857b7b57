"""How commands reach servers: addresses (address.py), and lanes of redis-py's connections for threads
(threads.py) and for asyncio (aio.py). TLS, ACL users, Sentinels and clusters are redis-py's."""
