"""The Gemini emulator: Google's REST API ``v1beta`` (and ``v1``) on one local port.

Services reach it by base URL alone and find the wire format, quota behaviour and error bodies that Google documents.
Behind the wire stands one of two backends: ``local`` (a real, small language model) or ``scripted`` (pre-rendered
answers for tests and benchmarks). ``/_emulator/`` is a control plane for tests; nothing of Google's lives there.

Run it with ``python -m devstack.gemini``; its settings carry the prefix ``FOCUS_GEMINI_``.
"""
