"""Where jobs are kept and who runs them: the contract, the engines that come with the library."""
