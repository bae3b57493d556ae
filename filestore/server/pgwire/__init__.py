"""PostgreSQL's wire protocol, version 3.0, over sessions.

Bytes become messages in `codec`, messages act in `connection`, results become bytes in `encode`; all of that is
sans-IO and knows neither sockets nor asyncio. `listener` is where they meet the event loop.
"""
