"""What a server must survive: clients that leave, processes that die."""
