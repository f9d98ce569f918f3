"""The batching engine, and an OpenAI-compatible server on it.

Its modules, in the order in which to read them: engine, model_registry, openai_schemas,
request_queue, openai_responses, middleware, chat_page, openai_app, serve_command, terminal_chat,
load_test.
"""
