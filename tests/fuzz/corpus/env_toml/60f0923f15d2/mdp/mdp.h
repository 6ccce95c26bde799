/* Any finite Markov decision process: a table of transition probabilities (states, actions, states), rewards, a first
 * state's distribution and terminal states, given as arrays or in a file (see mdp.py). Without any, a gridworld. */
#include "tabular.h"
