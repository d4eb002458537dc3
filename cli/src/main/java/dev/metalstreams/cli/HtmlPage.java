package dev.metalstreams.cli;

import dev.metalstreams.cli.Sheet.Column;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** Tables and plots as one page that needs nothing else: no script, no network. */
final class HtmlPage {
  private static final String STYLE =
      """
      :root { color-scheme: light dark; --ink: #1c2024; --soft: #60646c; --line: #e0e3e8; --page: #fcfcfd; --card: #fff;
        --s0: #2f6fde; --s1: #d9622b; --s2: #2a9d72; }
      @media (prefers-color-scheme: dark) { :root { --ink: #edeef0; --soft: #a0a4ab; --line: #33373d; --page: #121417;
        --card: #1a1d21; --s0: #7aa7ff; --s1: #ff9a66; --s2: #5fd3a5; } }
      * { box-sizing: border-box; }
      body { margin: 0 auto; max-width: 60rem; padding: 2rem 1rem 4rem; background: var(--page); color: var(--ink);
        font: 15px/1.5 system-ui, sans-serif; }
      h1 { font-size: 1.5rem; margin: 0 0 1rem; } h2 { font-size: 1.1rem; margin: 0 0 .75rem; }
      section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1.25rem;
        margin: 1.25rem 0; overflow-x: auto; }
      table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
      th, td { padding: .3rem .9rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line); }
      th { color: var(--soft); font-weight: 500; }
      th:first-child, td:first-child { text-align: left; }
      td small { color: var(--soft); padding-left: .3rem; white-space: nowrap; }
      ul { color: var(--soft); padding-left: 1.1rem; margin: .9rem 0 0; } p { margin: .75rem 0 0; }
      dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; margin: 0; }
      dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
      figure { margin: 0 0 1.25rem; } figcaption { color: var(--soft); margin: 0 0 .5rem; }
      svg { width: 100%; height: auto; max-width: 46rem; display: block; }
      svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
      svg text.value { fill: var(--ink); }
      svg .grid { stroke: var(--line); } svg .axis { stroke: var(--soft); }
      .s0 { stroke: var(--s0); fill: var(--s0); } .s1 { stroke: var(--s1); fill: var(--s1); }
      .s2 { stroke: var(--s2); fill: var(--s2); }
      svg [class] { stroke-width: 2; } svg .grid { stroke-width: 1; }
      svg polyline[class] { fill: none; } svg text[class], svg rect[class] { stroke: none; }
      """;

  private HtmlPage() {}

  /**
   * The page.
   *
   * @param machine what everything was measured under
   */
  static String of(List<Sheet> sheets, Map<String, String> machine) {
    StringBuilder html = new StringBuilder();
    html.append(
            """
            <!DOCTYPE html>
            <html lang="en">
            <head>
            <meta charset="utf-8"/>
            <meta name="viewport" content="width=device-width"/>
            <title>Metal Streams: what was measured</title>
            <style>
            """)
        .append(STYLE)
        .append("</style>\n</head>\n<body>\n<h1>Metal Streams: what was measured</h1>\n");
    html.append("<section>\n<h2>Conditions of all tables</h2>\n<dl>\n");
    machine.forEach(
        (name, value) ->
            html.append("<dt>")
                .append(text(name))
                .append("</dt><dd>")
                .append(text(value))
                .append("</dd>\n"));
    html.append("</dl>\n</section>\n");
    sheets.forEach(sheet -> section(html, sheet));
    return html.append("</body>\n</html>\n").toString();
  }

  private static void section(StringBuilder html, Sheet sheet) {
    html.append("<section id=\"")
        .append(sheet.name)
        .append("\">\n<h2>")
        .append(text(sheet.title))
        .append("</h2>\n");
    for (Sheet.Chart chart : sheet.charts) {
      html.append("<figure>\n")
          .append("<figcaption>")
          .append(text(chart.title()))
          .append("</figcaption>\n")
          .append(SvgChart.of(sheet, chart))
          .append("</figure>\n");
    }
    html.append("<table>\n<tr>");
    sheet.columns.forEach(
        column -> html.append("<th>").append(text(column.heading())).append("</th>"));
    html.append("</tr>\n");
    for (Map<String, @Nullable Object> row : sheet.rows) {
      html.append("<tr>");
      for (Column column : sheet.columns) {
        html.append("<td>").append(cell(column, row.get(column.field()))).append("</td>");
      }
      html.append("</tr>\n");
    }
    html.append("</table>\n");
    sheet.remarks.forEach(remark -> html.append("<p>").append(text(remark)).append("</p>\n"));
    html.append("<ul>\n");
    sheet.conditions.forEach(
        condition -> html.append("<li>").append(text(condition)).append("</li>\n"));
    html.append("</ul>\n</section>\n");
  }

  private static String cell(Column column, @Nullable Object cell) {
    String text = text(Sheet.text(column, cell));
    int spread = cell instanceof Rate ? text.indexOf(" (") : -1;
    return spread < 0
        ? text
        : text.substring(0, spread) + "<small>" + text.substring(spread + 1) + "</small>";
  }

  /** Text that may hold anything, for the inside of an element. */
  static String text(String text) {
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;");
  }
}
