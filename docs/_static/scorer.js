// The order of search results: the page that lists every error and its remedy comes first among equals.
var Scorer = {
  score: ([docname, , , , score]) => score + (docname === "reference/troubleshooting" ? 3 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
