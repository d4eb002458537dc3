package dev.metalstreams.cli;

import java.io.PrintStream;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/** What a benchmark found: a table, what it was measured under, and how to draw it. */
final class Sheet {

  /**
   * A column.
   *
   * @param field in JSON
   * @param heading for people
   * @param digits after the decimal point
   */
  record Column(String field, String heading, int digits) {}

  /**
   * How to draw a table.
   *
   * @param title what is shown, with its unit
   * @param bars bars, one for each row; else lines over the rows
   * @param label the column that names the rows
   * @param values the columns to draw
   */
  record Chart(String title, boolean bars, String label, List<String> values) {}

  final String name;
  final String title;
  final List<Column> columns;
  final List<Map<String, @Nullable Object>> rows = new ArrayList<>();
  final List<String> conditions = new ArrayList<>();
  final List<String> remarks = new ArrayList<>();
  final List<Chart> charts = new ArrayList<>();

  /** Further figures. */
  final Json figures = new Json();

  Sheet(String name, String title, Column... columns) {
    this.name = name;
    this.title = title;
    this.columns = List.of(columns);
  }

  /**
   * Adds a row: text, a number, a {@link Rate} or nothing for each column. What was not measured is
   * an empty optional.
   */
  void row(Object... cells) {
    if (cells.length != columns.size()) {
      throw new IllegalArgumentException(cells.length + " cells, " + columns.size() + " columns");
    }
    Map<String, @Nullable Object> row = new LinkedHashMap<>();
    for (int i = 0; i < cells.length; i++) {
      Object cell = cells[i] instanceof Optional<?> optional ? optional.orElse(null) : cells[i];
      row.put(columns.get(i).field, cell);
    }
    rows.add(row);
  }

  List<Json> jsonRows() {
    List<Json> all = new ArrayList<>();
    for (Map<String, @Nullable Object> row : rows) {
      Json json = new Json();
      row.forEach((field, cell) -> json.put(field, cell instanceof Rate rate ? rate.json() : cell));
      all.add(json);
    }
    return all;
  }

  Json json() {
    return new Json()
        .put("table", name)
        .put("title", title)
        .put("conditions", conditions)
        .put("rows", jsonRows())
        .put("figures", figures)
        .put("remarks", remarks);
  }

  void print(PrintStream out) {
    out.println(title);
    out.println();
    Table table = new Table();
    table.row(columns.stream().map(Column::heading).toArray());
    for (Map<String, @Nullable Object> row : rows) {
      table.row(columns.stream().map(column -> text(column, row.get(column.field))).toArray());
    }
    table.print(out);
    out.println();
    remarks.forEach(out::println);
    conditions.forEach(condition -> out.println("- " + condition));
  }

  /** A cell for people. */
  static String text(Column column, @Nullable Object cell) {
    if (cell == null) {
      return "-";
    }
    if (cell instanceof Rate rate) {
      int digits = rate.median() < 10 ? Math.max(column.digits, 2) : column.digits;
      String median = Figures.real(rate.median(), digits);
      return rate.rounds() == 1
          ? median
          : median
              + " ("
              + Figures.real(rate.low(), digits)
              + " to "
              + Figures.real(rate.high(), digits)
              + ")";
    }
    if (cell instanceof Double real) {
      return Figures.real(real, column.digits);
    }
    if (cell instanceof Number whole) {
      return Figures.count(whole.longValue());
    }
    return String.valueOf(cell);
  }

  /** What a cell is worth in a drawing. */
  static Optional<Rate> drawn(@Nullable Object cell) {
    if (cell instanceof Rate rate) {
      return Optional.of(rate);
    }
    return cell instanceof Number number
        ? Optional.of(new Rate(number.doubleValue(), number.doubleValue(), number.doubleValue(), 1))
        : Optional.empty();
  }
}
