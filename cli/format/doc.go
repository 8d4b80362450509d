// Package format prints what the engine answered: tables, JSON, Go templates with Docker's functions.
//
// It promises Docker's meaning of --format: nothing or "table" is the table, "table TEMPLATE" a table
// of the user's, "json" a JSON object a line, anything else a template for each row. It must not know
// containers or images: who has rows, names their columns.
package format
