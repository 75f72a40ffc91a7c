// Nothing: the compiler's version does not matter to a host that runs no device code.
