"""The gateway: one OpenAI-compatible address before all models, for programs without stubs.

A process of its own that uses nothing but the client. Callers with stubs go to the servers
directly.
"""
