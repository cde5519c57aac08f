"""The one package of this service that knows PostgreSQL's and Valkey's drivers."""
