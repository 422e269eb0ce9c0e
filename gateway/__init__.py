"""aoai-gateway: the one endpoint an organisation puts in front of Azure OpenAI."""

__version__ = "0.1.0"
