package dev.metalstreams.safetensors;

/** Text from a file that nobody has vouched for, made fit for one line of a message. */
final class Text {
  private static final int LONGEST = 80;

  private Text() {}

  static String quoted(String text) {
    return '\'' + oneLine(text) + '\'';
  }

  static String oneLine(String text) {
    StringBuilder line = new StringBuilder();
    text.codePoints()
        .limit(LONGEST)
        .forEach(
            c ->
                line.appendCodePoint(
                    Character.isISOControl(c) || isSeparator(c) || isLoneSurrogate(c) ? '?' : c));
    return text.codePointCount(0, text.length()) > LONGEST ? line + "…" : line.toString();
  }

  private static boolean isSeparator(int c) {
    return c == '\u2028' || c == '\u2029';
  }

  private static boolean isLoneSurrogate(int c) {
    return c >= Character.MIN_SURROGATE && c <= Character.MAX_SURROGATE;
  }
}
