package store

import (
	"fmt"
	"reflect"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// insertRows adds rows in one statement, which ends with tail. It returns how many were written. Unlike GORM's Create it costs
// PostgreSQL no more to understand the statement for many rows than for one.
func insertRows[Row any](s *Store, tx *gorm.DB, rows []Row, tail string, values ...any) (int64, error) {
	parsed := &gorm.Statement{DB: tx}
	if err := parsed.Parse(new(Row)); err != nil {
		return 0, fmt.Errorf("store: columns of %T: %w", rows, err)
	}
	var names []string
	var columns []reflect.Value
	for _, field := range parsed.Schema.Fields {
		names = append(names, field.DBName)
		column := reflect.MakeSlice(reflect.SliceOf(field.FieldType), len(rows), len(rows))
		for i := range rows {
			column.Index(i).Set(reflect.ValueOf(&rows[i]).Elem().FieldByIndex(field.StructField.Index))
		}
		columns = append(columns, column)
	}
	text, read := s.dialect.rowsFrom(columns)
	insert := tx.Exec("INSERT INTO "+parsed.Schema.Table+" ("+strings.Join(names, ", ")+") "+text+tail, append(read, values...)...)
	return insert.RowsAffected, insert.Error
}

// whole is a value that GORM hands to the driver as it is: it would make a list of a slice.
type whole struct{ value any }

// Build binds the value.
func (w whole) Build(builder clause.Builder) {
	statement, ok := builder.(*gorm.Statement)
	if !ok {
		builder.AddVar(builder, nil) // GORM builds with statements alone
		return
	}
	statement.Vars = append(statement.Vars, w.value)
	statement.BindVarTo(statement, statement, w.value)
}
