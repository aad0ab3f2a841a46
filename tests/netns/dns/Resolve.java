import java.net.InetAddress;

/** Prints the addresses that Java's own resolver finds for a name. */
class Resolve {
    public static void main(String[] names) throws Exception {
        for (InetAddress address : InetAddress.getAllByName(names[0])) {
            System.out.println(address.getHostAddress());
        }
    }
}
