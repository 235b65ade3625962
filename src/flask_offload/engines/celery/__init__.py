"""The Celery engine: the same tasks on the app's own Celery, with Redis or RabbitMQ."""
