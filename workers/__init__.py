"""The processes that do the work: one module, one process, one ``main()``."""
