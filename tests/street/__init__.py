"""Stories on the running street, against a simulated Azure, by way of real sockets."""
