/* Any finite Markov decision process: a table of transition probabilities (states, actions, states), rewards, a first
 * state's distribution and terminal states, given as arrays or in a fi