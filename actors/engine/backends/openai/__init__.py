"""How servers of OpenAI's API are spoken to: what is asked of them and what they answer.

::

    servers ──► requests ──► connection (HTTP) ──► events ──► chunks ──► pieces
    which one    its body                          of the      of the
                                                   stream      answer

All but `connection` is pure; what goes wrong has its words in `errors`.
"""
